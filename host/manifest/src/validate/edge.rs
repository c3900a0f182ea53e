//! Rules for `[application.tool.fnhost.edge]`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use toml::Spanned;

use super::super::edge::*;
use super::super::route::Pattern;
use super::super::variables::Template;
use super::super::{Error, MAX_MAX_CONCURRENCY, schema};
use super::Builder;

impl Builder<'_> {
    pub(super) fn edge(&self, written: schema::Edge) -> Result<Edge, Error> {
        let trusted_proxies = written.trusted_proxies.unwrap_or_else(|| Spanned::new(0..0, "0".to_owned()));
        let networks = written.proxy_networks.unwrap_or_else(|| {
            DEFAULT_PROXY_NETWORKS.map(|network| Spanned::new(0..0, network.to_owned())).into()
        });
        let token = match written.token {
            None => None,
            Some(token) => {
                let public_keys = self.template(&token.public_keys)?;
                let rotated =
                    token.signing_key.map(|name| self.key_variables(&name, &public_keys)).transpose()?;
                Some(TokenCheck { public_keys, rotated, issuer: token.issuer, audience: token.audience })
            }
        };
        let viewers = written
            .max_viewers_per_user
            .unwrap_or_else(|| Spanned::new(0..0, DEFAULT_MAX_VIEWERS_PER_USER.to_string()));
        if let Some(route) = &written.defaults.route {
            return self.fail(route.span().start, "the defaults are for every route; name none here");
        }
        let shed = written.shed.map(|shed| self.shed(shed.into_inner())).transpose()?;
        let defaults = self.policy(written.defaults, &self.plain_policy()?, token.is_some())?;
        let mut routes: Vec<(Pattern, Policy)> = Vec::with_capacity(written.route.len());
        for route in written.route {
            let at = route.span().start;
            let mut policy = route.into_inner();
            let Some(path) = policy.route.take() else {
                return self.fail(at, "this has no route; add route = \"/path\"");
            };
            let at = path.span().start;
            let pattern = Pattern::parse(path.get_ref()).or_else(|fault| self.fail(at, fault))?;
            if let Some((same, _)) = routes.iter().find(|(other, _)| other.same_paths(&pattern)) {
                return self.fail(at, format!("the edge has rules for \"{}\" already", same.raw()));
            }
            routes.push((pattern, self.policy(policy, &defaults, token.is_some())?));
        }
        let sheds = |policy: &Policy| !policy.shed.is_empty();
        if shed.is_none() && (sheds(&defaults) || routes.iter().any(|(_, policy)| sheds(policy))) {
            return self.fail(
                0,
                "a route says what is shed, but nothing when; add [application.tool.fnhost.edge.shed]",
            );
        }
        Ok(Edge {
            trusted_proxies: self.template(&trusted_proxies)?,
            max_viewers_per_user: self.template(&viewers)?,
            proxy_networks: networks.iter().map(|network| self.network(network)).collect::<Result<_, _>>()?,
            header_timeout: self.timeout(
                "header_timeout_ms",
                written.header_timeout_ms,
                DEFAULT_HEADER_TIMEOUT_MS,
            )?,
            token,
            shed,
            defaults,
            routes,
        })
    }

    /// The variables that hold the keys of tokens, where `fnhost keys` may change them.
    fn key_variables(
        &self,
        signing_key: &Spanned<String>,
        public_keys: &Template,
    ) -> Result<KeyVariables, Error> {
        let at = signing_key.span().start;
        self.check_variable(at, signing_key.get_ref())?;
        let Some(public) = public_keys.only_variable() else {
            return self.fail(
                at,
                "with a signing_key, public_keys is one variable and nothing else: \"{{ name }}\"",
            );
        };
        Ok(KeyVariables { private: signing_key.get_ref().clone(), public: public.to_owned() })
    }

    /// What holds where nothing is written.
    fn plain_policy(&self) -> Result<Policy, Error> {
        Ok(Policy {
            max_body_bytes: DEFAULT_MAX_BODY_BYTES as u64,
            max_header_bytes: DEFAULT_MAX_HEADER_BYTES as usize,
            max_headers: DEFAULT_MAX_HEADERS as usize,
            body_timeout: Duration::from_millis(DEFAULT_BODY_TIMEOUT_MS as u64),
            request_timeout: None,
            max_concurrency: None,
            token: TokenRule::Ignored,
            rate_limit: None,
            shed: Vec::new(),
            cors: None,
            security_headers: DEFAULT_SECURITY_HEADERS
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .into(),
        })
    }

    /// A policy that says what is written, and else what `base` says.
    fn policy(&self, written: schema::Policy, base: &Policy, has_keys: bool) -> Result<Policy, Error> {
        let bytes = |key, number, base: u64, max| self.number(key, number, base as i64, max);
        let request_timeout = match written.request_timeout_ms {
            None => base.request_timeout,
            some => Some(self.timeout("request_timeout_ms", some, MAX_TIMEOUT_MS)?),
        };
        let max_concurrency = match written.max_concurrency {
            None => base.max_concurrency,
            some => {
                Some(self.number("max_concurrency", some, MAX_MAX_CONCURRENCY, MAX_MAX_CONCURRENCY)? as usize)
            }
        };
        let mut security_headers = base.security_headers.clone();
        for (name, value) in written.security_headers.unwrap_or_default() {
            let known = self.header_name(&name)?;
            security_headers.retain(|(other, _)| *other != known);
            let header = HeaderValue::from_str(value.get_ref())
                .or_else(|_| self.fail(value.span().start, format!("\"{value}\" is not a header value")))?;
            // An empty value takes a header off the list.
            if !header.is_empty() {
                security_headers.push((known, header));
            }
        }
        Ok(Policy {
            max_body_bytes: bytes(
                "max_body_bytes",
                written.max_body_bytes,
                base.max_body_bytes,
                MAX_MAX_BODY_BYTES,
            )?,
            max_header_bytes: bytes(
                "max_header_bytes",
                written.max_header_bytes,
                base.max_header_bytes as u64,
                MAX_MAX_HEADER_BYTES,
            )? as usize,
            max_headers: bytes("max_headers", written.max_headers, base.max_headers as u64, MAX_MAX_HEADERS)?
                as usize,
            body_timeout: self.timeout(
                "body_timeout_ms",
                written.body_timeout_ms,
                base.body_timeout.as_millis() as i64,
            )?,
            request_timeout,
            max_concurrency,
            token: written.token.map_or(Ok(base.token), |rule| self.token_rule(&rule, has_keys))?,
            rate_limit: written
                .rate_limit
                .map_or(Ok(base.rate_limit), |limit| self.rate_limit(limit.into_inner()).map(Some))?,
            shed: written.shed.map_or(Ok(base.shed.clone()), |shed| self.turns(shed.into_inner()))?,
            cors: match written.cors {
                None => base.cors.clone(),
                Some(cors) => self.cors(cors)?,
            },
            security_headers,
        })
    }

    fn timeout(&self, key: &str, written: Option<Spanned<i64>>, default: i64) -> Result<Duration, Error> {
        self.number(key, written, default, MAX_TIMEOUT_MS).map(Duration::from_millis)
    }

    fn token_rule(&self, rule: &Spanned<String>, has_keys: bool) -> Result<TokenRule, Error> {
        let at = rule.span().start;
        match rule.get_ref().as_str() {
            "ignored" => Ok(TokenRule::Ignored),
            "optional" | "required" if !has_keys => {
                self.fail(at, "nothing to check tokens with; add [application.tool.fnhost.edge.token]")
            }
            "optional" => Ok(TokenRule::Optional),
            "required" => Ok(TokenRule::Required),
            _ => self.fail(
                at,
                format!("token = \"{rule}\" must be one of \"required\", \"optional\", \"ignored\""),
            ),
        }
    }

    fn rate_limit(&self, written: schema::RateLimit) -> Result<RateLimit, Error> {
        let requests = self.number("requests", Some(written.requests), 1, MAX_RATE_REQUESTS)?;
        let per_s = self.number("per_s", written.per_s, 1, MAX_RATE_PER_S)?;
        let burst = self.number("burst", written.burst, requests as i64, MAX_RATE_BURST)?;
        // Bounded above, all of them.
        Ok(RateLimit { requests: requests as u32, per: Duration::from_secs(per_s), burst: burst as u32 })
    }

    fn shed(&self, written: schema::Shed) -> Result<Shed, Error> {
        let target = self.timeout("target_ms", written.target_ms, DEFAULT_SHED_TARGET_MS)?;
        let triggers = written.triggers.into_iter().map(Spanned::into_inner).collect();
        Ok(Shed { triggers, target })
    }

    fn turns(
        &self,
        written: BTreeMap<Spanned<String>, Spanned<String>>,
    ) -> Result<Vec<(Method, Turn)>, Error> {
        let turn = |text: &Spanned<String>| match text.get_ref().as_str() {
            "first" => Ok(Turn::First),
            "last" => Ok(Turn::Last),
            _ => self.fail(text.span().start, format!("\"{text}\" must be \"first\" or \"last\"")),
        };
        written.iter().map(|(method, text)| Ok((self.method(method)?, turn(text)?))).collect()
    }

    /// No origin at all is no CORS: a route can take back what the defaults allow.
    fn cors(&self, written: Spanned<schema::Cors>) -> Result<Option<Cors>, Error> {
        let at = written.span().start;
        let written = written.into_inner();
        if written.origins.is_empty() {
            return Ok(None);
        }
        let every = written.origins.iter().any(|origin| origin.get_ref() == "*");
        if every && written.origins.len() > 1 {
            return self.fail(at, "\"*\" is every origin; name no other next to it");
        }
        if every && written.credentials {
            return self.fail(at, "credentials = true needs origins by name; browsers refuse \"*\"");
        }
        let origins = match every {
            true => None,
            false => Some(
                written.origins.into_iter().map(|origin| self.origin(origin)).collect::<Result<_, _>>()?,
            ),
        };
        let methods = match written.methods {
            None => vec![Method::GET, Method::HEAD, Method::POST],
            Some(methods) => methods.iter().map(|method| self.method(method)).collect::<Result<_, _>>()?,
        };
        let names = |names: Vec<Spanned<String>>| -> Result<Vec<HeaderName>, Error> {
            names.iter().map(|name| self.header_name(name)).collect()
        };
        Ok(Some(Cors {
            origins,
            methods,
            headers: names(written.headers)?,
            expose: names(written.expose)?,
            max_age: Duration::from_secs(self.number(
                "max_age_s",
                written.max_age_s,
                DEFAULT_CORS_MAX_AGE_S,
                MAX_CORS_MAX_AGE_S,
            )?),
            credentials: written.credentials,
        }))
    }

    fn method(&self, text: &Spanned<String>) -> Result<Method, Error> {
        let method = Method::from_bytes(text.get_ref().as_bytes()).ok();
        match method.filter(|method| method.as_str().bytes().all(|byte| byte.is_ascii_uppercase())) {
            Some(method) => Ok(method),
            None => {
                self.fail(text.span().start, format!("\"{text}\" is not a method; write it like \"POST\""))
            }
        }
    }

    fn header_name(&self, text: &Spanned<String>) -> Result<HeaderName, Error> {
        HeaderName::try_from(text.get_ref().as_str())
            .or_else(|_| self.fail(text.span().start, format!("\"{text}\" is not a header name")))
    }

    fn network(&self, text: &Spanned<String>) -> Result<ipnet::IpNet, Error> {
        let written = text.get_ref().trim();
        let address = || written.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        written.parse().or_else(|_| address()).or_else(|_| {
            self.fail(
                text.span().start,
                format!("\"{text}\" is not a network; write it like \"10.0.0.0/8\", or as one address"),
            )
        })
    }
}
