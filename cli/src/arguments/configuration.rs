//! Commands for the whole configuration: `weir apply`, `weir explain`, `weir revisions`.

use clap::{Args, Subcommand};
use weir_snapshot::units::HumanDuration;

use super::Watch;

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The file, YAML or JSON; - reads standard input.
    #[arg(short, long)]
    pub(crate) file: String,
    /// Only prints what would change.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) changing: Changing,
}

/// Flags of changes to the whole configuration.
#[derive(Debug, Args)]
pub(crate) struct Changing {
    /// Waits until every connected node runs the revision, at most this long [without a value: 30s].
    #[arg(long, num_args = 0..=1, default_missing_value = "30s", value_name = "DURATION")]
    pub(crate) wait: Option<HumanDuration>,
    /// Changes nothing unless this is the current revision.
    #[arg(long, value_name = "N")]
    pub(crate) if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Method of the request, such as GET.
    pub(crate) method: String,
    /// URL of the request, such as https://api.example.com/v1/books, or a path.
    pub(crate) url: String,
    /// A header of the request, as `name: value`; can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<String>,
    /// Shows up to 100 of the routes that do not match.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct RevisionsList {
    /// Maximum number of revisions [default: 20].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: Option<u32>,
    /// Only revisions below this one.
    #[arg(long, value_name = "N")]
    pub(crate) before: Option<u64>,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RevisionsVerb {
    /// Lists revisions, newest first; the default.
    #[command(alias = "ls")]
    List(RevisionsList),
    /// Shows one revision with everything that it changed.
    #[command(alias = "show")]
    Get {
        /// Its number.
        #[arg(value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
        revision: u64,
    },
}

/// Parses the number of a revision. Other text is most likely a misspelled verb, so the error suggests one.
pub(crate) fn number_or_verb(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        Ok(_) => Err("0 is not in 1..18446744073709551615".to_owned()),
        Err(_) => {
            let near = crate::usage::nearest(text, ["list", "get"]);
            let near = near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            Err(format!("neither the number of a revision nor a verb (known: list, get){near}"))
        }
    }
}
