//! The report as a picture: bars of the saga's rates, of the CPU time per order, and of the latencies under load.

use crate::report::Report;
use std::fmt::Write as _;

/// Sizes in pixels.
const WIDTH: f64 = 860.0;
const LABEL_WIDTH: f64 = 260.0;
const BAR_WIDTH: f64 = 420.0;
const ROW_HEIGHT: f64 = 24.0;
const COLOURS: [&str; 3] = ["#2f6f9f", "#c77d2e", "#5b8c5a"];

/// One bar: its parts from left to right, and what is written behind it.
struct Bar {
    label: String,
    parts: Vec<f64>,
    text: String,
}

/// The picture as SVG.
pub fn svg(report: &Report) -> String {
    let mut drawing = Drawing { body: String::new(), y: 10.0 };
    drawing.chart("Saga alone: orders confirmed per second", &saga(report), &[]);
    drawing.chart("CPU time per order, microseconds", &cpu(report), &["host", "Postgres", "Kafka"]);
    drawing.chart("POST to CONFIRMED, milliseconds: p50, then p99", &latencies(report), &[]);
    drawing.chart("GET /orders/{id}: requests per second", &reads(report), &[]);
    let height = drawing.y + 10.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
        drawing.body
    )
}

fn saga(report: &Report) -> Vec<Bar> {
    let saga = &report.saga;
    [
        ("components", saga.wasm_orders_per_s),
        ("native code in the host", saga.native_orders_per_s),
        ("plain loop, at least once", saga.plain_orders_per_s),
    ]
    .map(|(label, rate)| Bar { label: label.to_owned(), parts: vec![rate], text: format!("{rate:.0}/s") })
    .into()
}

fn cpu(report: &Report) -> Vec<Bar> {
    let bar = |(name, cpu): (&String, &crate::report::CpuPerOrder)| Bar {
        label: name.replace('_', " "),
        parts: vec![cpu.fnhost, cpu.postgres, cpu.kafka],
        text: format!("{:.0}", cpu.system()),
    };
    report.cpu_us_per_order.iter().map(bar).collect()
}

fn latencies(report: &Report) -> Vec<Bar> {
    let bar = |step: &crate::report::EndToEnd| Bar {
        label: format!("{} ({:.0}/s)", step.name, step.confirmed_per_s),
        parts: vec![step.p50_ms, step.p99_ms - step.p50_ms],
        text: format!("{:.0}, {:.0}", step.p50_ms, step.p99_ms),
    };
    // At saturation the latency says only how long the load lasted.
    report.end_to_end.iter().filter(|step| step.name != "saturation").map(bar).collect()
}

fn reads(report: &Report) -> Vec<Bar> {
    let bar = |(connections, get): (&usize, &crate::report::HttpGet)| Bar {
        label: format!("{connections} connections"),
        parts: vec![get.requests_per_s],
        text: format!("{:.0}/s", get.requests_per_s),
    };
    report.http_get.iter().map(bar).collect()
}

struct Drawing {
    body: String,
    y: f64,
}

impl Drawing {
    fn chart(&mut self, title: &str, bars: &[Bar], legend: &[&str]) {
        if bars.is_empty() {
            return;
        }
        self.y += ROW_HEIGHT;
        self.text(10.0, title, "font-weight=\"bold\"");
        for (n, name) in legend.iter().enumerate() {
            let x = LABEL_WIDTH + 190.0 + n as f64 * 90.0;
            self.rectangle(x - 16.0, 12.0, COLOURS[n % COLOURS.len()]);
            self.text(x, name, "");
        }
        let longest = bars.iter().map(|bar| bar.parts.iter().sum::<f64>()).fold(f64::MIN_POSITIVE, f64::max);
        for bar in bars {
            self.y += ROW_HEIGHT;
            self.text(20.0, &bar.label, "");
            let mut x = LABEL_WIDTH;
            for (n, part) in bar.parts.iter().enumerate() {
                let width = (part / longest * BAR_WIDTH).max(0.0);
                self.rectangle(x, width, COLOURS[n % COLOURS.len()]);
                x += width;
            }
            self.text(x + 8.0, &bar.text, "");
        }
        self.y += ROW_HEIGHT / 2.0;
    }

    /// Writing to a `String` cannot fail.
    fn text(&mut self, x: f64, text: &str, style: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(self.body, "<text x=\"{x:.1}\" y=\"{:.1}\" {style}>{text}</text>", self.y);
    }

    fn rectangle(&mut self, x: f64, width: f64, colour: &str) {
        let y = self.y - 13.0;
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>"
        );
    }
}
