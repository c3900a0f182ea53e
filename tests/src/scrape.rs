//! A scrape of `/metrics`, read back.

use crate::client::Client;
use anyhow::Context as _;
use http::StatusCode;
use std::collections::{BTreeMap, BTreeSet};

/// One sample: the labels without those of a histogram's buckets, and the value.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The name as it stands in the scrape, `_bucket`, `_sum` and `_count` included.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// Value of the sample.
    pub value: f64,
}

/// What one family's lines say.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Text of the `# HELP` line.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Samples of the family, with their labels.
    pub samples: Vec<Sample>,
}

/// All families of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// By name.
    pub families: BTreeMap<String, Family>,
}

impl Scrape {
    /// Scrapes an admin address.
    ///
    /// # Errors
    /// It does not answer, or not in Prometheus' text format.
    pub async fn of(admin: &Client) -> anyhow::Result<Self> {
        let answer = admin.get("/metrics").await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{answer}");
        Self::read(std::str::from_utf8(&answer.body)?)
    }

    /// Reads the text format, version 0.0.4.
    ///
    /// # Errors
    /// A line is not of it.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            scrape.line(line).with_context(|| format!("the line {line:?}"))?;
        }
        Ok(scrape)
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) = (words.next(), words.next().context("a name")?, words.next());
            let family = self.families.entry(name.to_owned()).or_default();
            match what {
                Some("HELP") => family.help = rest.unwrap_or_default().replace("\\\\", "\\"),
                Some("TYPE") => family.kind = rest.context("a type")?.to_owned(),
                _ => anyhow::bail!("another comment"),
            }
            return Ok(());
        }
        let (series, value) = line.rsplit_once(' ').context("a value")?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').context("a closing brace")?),
            None => (series, ""),
        };
        let suffixes = ["_bucket", "_sum", "_count"];
        let family = std::iter::once(name)
            .chain(suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix)))
            .find(|name| self.families.contains_key(*name))
            .context("a family that was announced")?
            .to_owned();
        let sample = Sample { name: name.to_owned(), labels: read_labels(labels)?, value: value.parse()? };
        self.families.entry(family).or_default().samples.push(sample);
        Ok(())
    }

    /// Samples of that name that have these labels, others besides.
    pub fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let all = self.families.values().flat_map(|family| &family.samples);
        all.filter(|sample| sample.name == name && sample.has(labels)).collect()
    }

    /// Their sum; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).iter().map(|sample| sample.value).sum()
    }

    /// The names of all samples, each with the names of its labels.
    pub fn series(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for sample in self.families.values().flat_map(|family| &family.samples) {
            series.entry(sample.name.clone()).or_default().extend(sample.labels.keys().cloned());
        }
        series
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|v| v == value))
    }
}

fn read_labels(mut text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").context("a label's name")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().context("a label's end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().context("an escaped character")?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = rest[end + 1..].trim_start_matches(',');
    }
    Ok(labels)
}
