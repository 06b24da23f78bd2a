//! `weir nodes`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::Watch;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum NodesVerb {
    /// Lists nodes; the default.
    #[command(alias = "ls")]
    List(Watch),
    /// Shows one node.
    #[command(alias = "show")]
    Get {
        /// The node's id.
        #[arg(add = ArgValueCompleter::new(completion::nodes))]
        id: String,
    },
    /// Ends the membership of nodes and their streams. They keep serving with the configuration that they have.
    Revoke(Nodes),
    /// Lets revoked nodes join again. For a connected node: one more process may join under its id within an hour.
    Allow(Nodes),
    /// Leaves the counts of nodes out of reports from now on.
    Exclude(Nodes),
    /// Counts nodes again from now on.
    Include(Nodes),
}

/// One or more nodes.
#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Ids of nodes.
    #[arg(required = true, value_name = "ID", add = ArgValueCompleter::new(completion::nodes))]
    pub(crate) ids: Vec<String>,
}
