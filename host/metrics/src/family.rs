//! Families of metrics made from their [`Name`]s: those that are counted as things happen, and those read at a scrape.

use super::names::{Kind, Name};
use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{CounterVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::sync::LazyLock;

/// What has been counted since the process started.
static COUNTED: LazyLock<Registry> = LazyLock::new(Registry::new);

/// All families that were counted into.
pub fn counted() -> Vec<MetricFamily> {
    COUNTED.gather()
}

/// A family of whole-numbered counters.
pub(super) fn int_counter(name: &Name) -> IntCounterVec {
    registered(name, IntCounterVec::new(opts(name), name.labels))
}

/// A family of counters with fractions.
pub(super) fn counter(name: &Name) -> CounterVec {
    registered(name, CounterVec::new(opts(name), name.labels))
}

/// A family of whole-numbered gauges.
pub(super) fn int_gauge(name: &Name) -> IntGaugeVec {
    registered(name, IntGaugeVec::new(opts(name), name.labels))
}

/// A family of histograms.
pub(super) fn histogram(name: &Name) -> HistogramVec {
    let Kind::Histogram(bounds) = name.kind else { panic!("{} is not a histogram", name.name) };
    let opts = HistogramOpts::from(opts(name)).buckets(bounds.to_vec());
    registered(name, HistogramVec::new(opts, name.labels))
}

fn opts(name: &Name) -> Opts {
    Opts::new(name.name, name.help)
}

/// A name that does not fit is a mistake in [`super::names`], which the tests of this module find.
fn registered<C: Collector + Clone + 'static>(name: &Name, made: prometheus::Result<C>) -> C {
    let registered = made.and_then(|family| COUNTED.register(Box::new(family.clone())).map(|()| family));
    registered.unwrap_or_else(|error| panic!("{}: {error}", name.name))
}

/// A family whose values are read at a scrape.
pub struct Read {
    name: &'static Name,
    metrics: Vec<Metric>,
}

impl Read {
    /// A family without samples.
    pub fn new(name: &'static Name) -> Self {
        Self { name, metrics: Vec::new() }
    }

    /// One with a single value.
    pub fn one(name: &'static Name, value: f64) -> MetricFamily {
        let mut read = Self::new(name);
        read.add(&[], value);
        read.family()
    }

    /// Adds a value; label values are in the order of the name's labels.
    pub fn add(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.name.labels.len(), "{}", self.name.name);
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(self.name.labels.iter().zip(labels).map(pair).collect());
        if self.name.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push(metric);
    }

    /// The family.
    pub fn family(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.name.to_owned());
        family.set_help(self.name.help.to_owned());
        family.set_field_type(if self.name.kind == Kind::Counter {
            MetricType::COUNTER
        } else {
            MetricType::GAUGE
        });
        family.set_metric(self.metrics);
        family
    }
}
