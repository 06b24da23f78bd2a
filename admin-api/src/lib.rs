//! The admin REST API: every request, answer and query as a Rust type, with its JSON Schema.
//!
//! The control plane serves these types and the command line reads them. Types of the configuration (pools, routes)
//! come from [`weir_snapshot::config`] and are not repeated here.
//!
//! This crate does no I/O and knows neither the HTTP server nor the client.

mod access;
mod backends;
mod certificates;
mod configuration;
mod error;
mod explain;
mod list;
mod nodes;
mod pools;
mod reports;
mod status;
mod tail;

pub use weir_snapshot::{
    Problem,
    config::{BackendState, Config, Pool, Route, Strategy},
    diff::{Action, Difference, Field},
    explain::{Filter, Passed, Says},
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
    pools::{PoolQuery, RouteQuery, SavedRoute, SetStrategy, StrategySet},
    reports::{
        Completeness, Cut, Format, Latency, Measures, Period, PeriodCount, Rejected, Report, ReportQuery,
        ReportingNodes, Summary, SummaryBefore, SummaryQuery, Top, TopItem, TopQuery,
    },
    status::{ConfigFile, PoolStatus, Refused, RouteStatus, Status},
    tail::{AnswerKind, RequestOutcome, TailEvent, TailQuery},
};
