//! Names of the load-balancing algorithms.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Load-balancing algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Weighted round robin, with evenly interleaved turns.
    #[default]
    RoundRobin,
    /// Random, in proportion to the weights.
    Random,
    /// The backend with the fewest requests in flight per weight.
    LeastConnections,
    /// The less busy of two backends chosen at random.
    PowerOfTwo,
    /// The faster of two backends chosen at random, by recent latency and load.
    PeakEwma,
    /// Hash of the client address; the same backend on every node.
    IpHash,
    /// Hash of the key in `hash_on`; the same backend on every node.
    ConsistentHash,
}

impl Strategy {
    /// Every strategy with its name in the configuration.
    pub const ALL: [(Strategy, &str); 7] = [
        (Strategy::RoundRobin, "round_robin"),
        (Strategy::Random, "random"),
        (Strategy::LeastConnections, "least_connections"),
        (Strategy::PowerOfTwo, "power_of_two"),
        (Strategy::PeakEwma, "peak_ewma"),
        (Strategy::IpHash, "ip_hash"),
        (Strategy::ConsistentHash, "consistent_hash"),
    ];
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(strategy, _)| strategy == self).map_or("", |(_, name)| name))
    }
}

/// An unknown strategy name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown strategy {0:?} (known: {known})", known = Strategy::ALL.map(|(_, name)| name).join(", "))]
pub struct UnknownStrategy(pub String);

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(strategy, _)| *strategy)
            .ok_or_else(|| UnknownStrategy(text.to_owned()))
    }
}
