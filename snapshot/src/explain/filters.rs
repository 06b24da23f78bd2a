//! The verdicts of a route's filters on a request.

use std::time::Duration;

use super::{Filter, SampleRequest, Verdict};
use crate::{
    Jwt, Route,
    config::RateKey,
    units::{ByteSize, HumanDuration},
};

pub(super) fn filters(route: &Route, request: &SampleRequest) -> Vec<Filter> {
    let mut said = Vec::new();
    let mut say = |filter: &str, says, detail: String| {
        said.push(Filter { filter: filter.to_owned(), says, detail });
    };
    if let Some(filters) = &route.filters {
        for rules in &filters.ip {
            match request.client {
                None => say(
                    "ip_filter",
                    Verdict::Depends,
                    "depends on the client address, which is not given".to_owned(),
                ),
                Some(client) if rules.allows(client) => {
                    say("ip_filter", Verdict::Passes, format!("allows {client}"));
                }
                Some(client) => say("ip_filter", Verdict::Refuses, format!("403, {client} is not allowed")),
            }
        }
        if !filters.methods.is_empty() {
            let known = filters.methods.join(", ");
            match filters.methods.iter().any(|method| **method == request.method) {
                true => say("allow_methods", Verdict::Passes, format!("allows {known}")),
                false => say("allow_methods", Verdict::Refuses, format!("405, allows only {known}")),
            }
        }
        if let Some(limit) = &filters.rate_limit {
            let scope = match limit.scope {
                crate::config::RateScope::Node => "counted on each node",
                crate::config::RateScope::Fleet => "shared by all nodes",
            };
            let (per, key) = (HumanDuration(limit.per), &limit.key);
            let new = match key {
                RateKey::Header(_) => format!(", at most {} new values per address", limit.new_values),
                RateKey::ClientIp | RateKey::Route => String::new(),
            };
            let detail = format!(
                "{} requests per {per}, burst {}, by {key}{new}, {scope}; more get 429",
                limit.requests, limit.burst
            );
            say("rate_limit", Verdict::Depends, detail);
        }
        if let Some(auth) = &filters.basic_auth {
            let mut given = request.all("authorization");
            match (given.next().is_some_and(|value| starts_with(value, "basic ")), given.next()) {
                (_, Some(_)) => {
                    say("basic_auth", Verdict::Refuses, "401, two Authorization headers".to_owned())
                }
                (true, None) => {
                    say(
                        "basic_auth",
                        Verdict::Depends,
                        format!("checks the password for realm {:?}", auth.realm),
                    );
                }
                (false, None) => {
                    say("basic_auth", Verdict::Refuses, "401, no user name and password".to_owned())
                }
            }
        }
        if let Some(jwt) = &filters.jwt {
            let (says, detail) = token(jwt, request);
            say("jwt", says, detail);
        }
    }
    if route.max_body < u64::MAX {
        let most = ByteSize(route.max_body);
        say("limits.max_body", Verdict::Depends, format!("413 for a body larger than {most}"));
    }
    let overrides = &route.overrides;
    let time = |time: Duration| match time {
        Duration::ZERO => "no limit".to_owned(),
        time => HumanDuration(time).to_string(),
    };
    for (name, given, what) in [
        ("timeouts.request", route.request_timeout, "time for the whole request"),
        ("timeouts.response", overrides.response, "time until the response head"),
        (
            "timeouts.response_body",
            overrides.response_body,
            "longest pause of the backend in the response body",
        ),
        ("timeouts.request_body", overrides.request_body, "longest pause of the client in the request body"),
        ("timeouts.send", overrides.send, "longest time in which the client accepts nothing of the response"),
    ] {
        if let Some(given) = given {
            say(name, Verdict::Depends, format!("{what}: {}", time(given)));
        }
    }
    if let Some(rate) = overrides.min_body_rate {
        let rate = if rate == 0 { "no limit".to_owned() } else { format!("{rate} bytes per second") };
        say("limits.min_body_rate", Verdict::Depends, format!("minimum average rate of a body: {rate}"));
    }
    said
}

/// Looks for a token where [`crate::Jwt`] says it may be.
fn token(jwt: &Jwt, request: &SampleRequest) -> (Verdict, String) {
    let mut values = request.all(&jwt.header);
    let in_header = match (values.next(), values.next()) {
        (Some(_), Some(_)) => return (Verdict::Refuses, format!("401, two {} headers", jwt.header)),
        (Some(value), None) => *jwt.header != *"authorization" || starts_with(value, "bearer"),
        (None, _) => false,
    };
    if in_header {
        return (Verdict::Depends, format!("checks a token of issuer {} in {}", jwt.issuer, jwt.header));
    }
    let Some(name) = &jwt.cookie else {
        return (Verdict::Refuses, format!("401, no token in {}", jwt.header));
    };
    match request.cookies().filter(|(own, _)| **own == **name).count() {
        0 => (Verdict::Refuses, format!("401, no token in {} or cookie {name}", jwt.header)),
        1..=Jwt::MAX_COOKIES => {
            (Verdict::Depends, format!("checks a token of issuer {} in cookie {name}", jwt.issuer))
        }
        many => (Verdict::Refuses, format!("401, {many} cookies {name} (at most {})", Jwt::MAX_COOKIES)),
    }
}

fn starts_with(value: &str, scheme: &str) -> bool {
    value.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
}
