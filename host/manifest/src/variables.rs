//! Application variables: who gives them a value, and the `{{ name }}` templates that use them.
//!
//! A value comes from the first of: `--variable name=value`, the environment variable
//! `SPIN_VARIABLE_NAME`, what fnhost provides itself (the embedded database), the manifest's default.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::edge::ResolvedEdge;
use super::hosts::AllowedHosts;
use super::rotating::Rotating;
use super::{Error, Manifest};

/// What comes before the upper-cased name of a variable in the environment.
const ENVIRONMENT_PREFIX: &str = "SPIN_VARIABLE_";

/// A text that is never shown: its `Debug` hides it and it has no `Display`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(***)")
    }
}

/// A text with `{{ name }}` in the place of application variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(String),
}

impl Template {
    /// Reads a template; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("{{") {
            let Some((name, tail)) = after.split_once("}}") else {
                return Err(format!("\"{text}\" opens \"{{{{\" and does not close it with \"}}}}\""));
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            parts.push(Part::Variable(name.trim().to_owned()));
            rest = tail;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Names of the variables it uses.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The variable, where the text is one and nothing else.
    #[must_use]
    pub fn only_variable(&self) -> Option<&str> {
        match &self.0[..] {
            [Part::Variable(name)] => Some(name),
            _ => None,
        }
    }

    /// The template's text where it uses no variable.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn fill(&self, values: &BTreeMap<String, Secret>) -> String {
        let text_of = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            // Checked when the manifest was read, and every variable has a value by now.
            Part::Variable(name) => values.get(name).map(|value| value.0.clone()).unwrap_or_default(),
        };
        self.0.iter().map(text_of).collect()
    }
}

/// Whether a text may be the name of a variable, as Spin has it.
pub fn valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.contains("__")
}

/// Who gives variables their values, beside the manifest's defaults.
#[derive(Debug, Clone, Default)]
pub struct VariableSources {
    /// `--variable name=value`.
    pub flags: BTreeMap<String, Secret>,
    /// `SPIN_VARIABLE_*` of the environment, by the variable's name.
    pub environment: BTreeMap<String, Secret>,
    /// What fnhost provides itself.
    pub host: BTreeMap<String, Secret>,
}

impl VariableSources {
    /// The sources a command line and an environment give; an argument is what [`super::given`] reads.
    pub fn new<'a>(
        flags: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut sources = Self::default();
        for flag in flags {
            let given = super::given::variables(flag);
            sources.flags.extend(given.map_err(|fault| Error::Variables(vec![fault]))?);
        }
        for (key, value) in environment {
            if let Some(name) = key.strip_prefix(ENVIRONMENT_PREFIX) {
                sources.environment.insert(name.to_ascii_lowercase(), Secret::new(value));
            }
        }
        Ok(sources)
    }

    /// The value that somebody other than the manifest's default gives.
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.flags.get(name).or_else(|| self.environment.get(name)).or_else(|| self.host.get(name))
    }
}

/// Every variable with its value.
#[derive(Debug, Clone)]
pub struct Values {
    /// Application variables by name.
    pub application: BTreeMap<String, Secret>,
    /// What each component gets, by its id.
    pub components: BTreeMap<String, ResolvedComponent>,
    /// What the edge gets.
    pub edge: ResolvedEdge,
    /// Values that change while the host runs.
    pub rotating: Rotating,
}

/// The parts of a component that depend on variables.
#[derive(Debug, Clone)]
pub struct ResolvedComponent {
    /// What `spin:variables` answers.
    pub variables: BTreeMap<String, Secret>,
    /// Which of them change while the host runs, with the application variable behind each.
    pub rotated: BTreeMap<String, String>,
    /// Where it may connect to.
    pub allowed_hosts: AllowedHosts,
}

/// Fills in all variables of a manifest, or says which ones are missing.
pub(super) fn resolve(manifest: &Manifest, sources: &VariableSources) -> Result<Values, Error> {
    let mut faults: Vec<String> = sources
        .flags
        .keys()
        .filter(|name| !manifest.variables.contains_key(*name))
        .map(|name| unknown_flag(manifest, name))
        .collect();
    let mut application = BTreeMap::new();
    for (name, variable) in &manifest.variables {
        match sources.get(name).or(variable.default.as_ref()) {
            Some(value) => {
                application.insert(name.clone(), value.clone());
            }
            None => faults.push(missing(manifest, name)),
        }
    }
    if !faults.is_empty() {
        return Err(Error::Variables(faults));
    }
    let keys = manifest.application.edge.token.as_ref().and_then(|token| token.rotated.as_ref());
    let rotating: Vec<&str> = keys.iter().flat_map(|keys| [keys.private.as_str(), &keys.public]).collect();
    let mut components = BTreeMap::new();
    for component in manifest.components.values() {
        let hosts = component.allowed_outbound_hosts.iter().map(|host| host.fill(&application));
        let allowed_hosts = AllowedHosts::parse(&component.id, hosts).map_err(|fault| {
            Error::Variables(vec![format!(
                "{}: component \"{}\": {fault}",
                manifest.path.display(),
                component.id
            )])
        })?;
        let filled =
            |(name, template): (&String, &Template)| (name.clone(), Secret(template.fill(&application)));
        let variables = component.variables.iter().map(filled).collect();
        let rotated = component.variables.iter().filter_map(|(name, template)| {
            let variable = template.only_variable()?;
            rotating.contains(&variable).then(|| (name.clone(), variable.to_owned()))
        });
        let rotated = rotated.collect();
        components.insert(component.id.clone(), ResolvedComponent { variables, rotated, allowed_hosts });
    }
    let edge = manifest.application.edge.resolve(&application).map_err(|fault| {
        Error::Variables(vec![format!(
            "{}: [application.tool.fnhost.edge]: {fault}",
            manifest.path.display()
        )])
    })?;
    Ok(Values { application, components, edge, rotating: Rotating::default() })
}

fn unknown_flag(manifest: &Manifest, name: &str) -> String {
    let near = super::error::nearest(name, manifest.variables.keys().map(String::as_str));
    let hint = match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("add it to [variables] in {}", manifest.path.display()),
    };
    format!("--variable {name}=…: the application has no variable \"{name}\"; {hint}")
}

fn missing(manifest: &Manifest, name: &str) -> String {
    let users: BTreeSet<&str> = manifest
        .components
        .values()
        .filter(|component| {
            let templates = component.variables.values().chain(&component.allowed_outbound_hosts);
            templates.into_iter().any(|template| template.variables().any(|used| used == name))
        })
        .map(|component| component.id.as_str())
        .collect();
    let users = match users.len() {
        0 => "no component uses it".to_owned(),
        1 => format!("component {} needs it", users.into_iter().collect::<String>()),
        _ => format!("components {} need it", users.into_iter().collect::<Vec<_>>().join(", ")),
    };
    format!(
        "variable \"{name}\" has no value ({users}); \
         set {ENVIRONMENT_PREFIX}{} or pass --variable {name}=VALUE",
        name.to_ascii_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let values = BTreeMap::from([
            ("host".to_owned(), Secret::new("db")),
            ("port".to_owned(), Secret::new("5432")),
        ]);
        for (text, filled, used) in [
            ("", "", &[][..]),
            ("plain", "plain", &[]),
            ("{{host}}", "db", &["host"]),
            ("postgres://{{ host }}:{{ port }}/x", "postgres://db:5432/x", &["host", "port"]),
            ("}} {{ host }} }}", "}} db }}", &["host"]),
        ] {
            let template = Template::parse(text).unwrap();
            assert_eq!(template.fill(&values), filled);
            assert_eq!(template.variables().collect::<Vec<_>>(), used);
        }
        assert!(Template::parse("{{ a }} {{ b").unwrap_err().contains("does not close"));
    }

    #[test]
    fn names() {
        for good in ["a", "abc", "a1b2c3", "a_1", "a_1_b_3"] {
            assert!(valid_name(good), "{good}");
        }
        for bad in ["", "aX", "1bc", "_x", "x.y", "x_", "a__b", "x-y", "é"] {
            assert!(!valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let sources =
            VariableSources::new(["a=hush"], [("SPIN_VARIABLE_B_C".into(), "hush".into())]).unwrap();
        assert_eq!(sources.get("b_c").unwrap().expose(), "hush");
        assert!(!format!("{sources:?}").contains("hush"));
        let error = VariableSources::new(["hush"], []).unwrap_err();
        assert!(!error.to_string().contains("hush"));
    }
}
