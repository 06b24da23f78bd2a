//! The admin REST API: every request, answer and query as a Rust type, with its JSON Schema.
//!
//! The control plane serves these types and the command line reads them. Types of the configuration (pools, routes)
//! come from [`weir_snapshot::config`] and are not repeated here. [`operations`] declares each operation once; the router,
//! the role table, [the OpenAPI document](openapi) and [the reference](reference) follow from it.
//!
//! This crate does no I/O and knows neither the HTTP server nor the client.

#[macro_use]
mod names;

mod access;
pub mod answer;
mod backends;
pub mod body;
mod certificates;
mod configuration;
pub mod endpoint;
mod error;
mod explain;
mod list;
mod nodes;
pub mod openapi;
pub mod operations;
pub mod parameters;
mod path;
mod pools;
pub mod reference;
mod reports;
mod schemas;
mod status;
mod tail;

pub use weir_snapshot::{
    FilterRefusals, Problem, RefusalCounts, RefusalReason,
    config::{BackendState, Config, Pool, Route, Strategy},
    diff::{Action, Difference, Field},
    explain::{Filter, SkippedRoute, Verdict},
};

pub use self::{
    access::{
        AuditEntry, AuditQuery, CreatedNodeToken, CreatedToken, NewNodeToken, NewToken, NodeToken,
        NodeTokenState, Outcome, RevokedNodeToken, RevokedToken, Role, Token, TokenState, UnknownRole,
    },
    backends::{
        Backend, BackendByUrl, BackendQuery, BackendUpdate, BreakerState, CheckResult, Health, NewBackend,
    },
    certificates::{Certificate, CertificateState, NewCertificate, StoredCertificate},
    configuration::{
        Applied, ApplyQuery, Revised, Revision, RevisionDetail, RevisionQuery, Rollout, WaitQuery,
    },
    error::Error,
    explain::{ExplainQuery, Explained, ExplainedBackend, ExplainedPool},
    list::{List, ListQuery},
    nodes::{AllowedNode, Node, NodeCounting, NodeError, NodeState, RevokedNode},
    path::{Id, Name, NodeTokenId, Number},
    pools::{PoolQuery, RouteQuery, SavedRoute, SetStrategy, StrategySet},
    reports::{
        Completeness, Cut, Format, Latency, Measures, Period, PeriodCount, Report, ReportQuery,
        ReportingNodes, Summary, SummaryBefore, SummaryQuery, Top, TopItem, TopQuery,
    },
    status::{ConfigFile, PoolStatus, RouteStatus, Status},
    tail::{AnswerKind, RequestOutcome, TailEvent, TailQuery},
};
