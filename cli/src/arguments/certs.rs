//! `weir certs`.

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use super::Watch;
use crate::completion;

#[derive(Debug, Subcommand)]
pub(crate) enum CertsVerb {
    /// Lists certificates and when they expire; the default.
    #[command(alias = "ls")]
    List(Watch),
    /// Shows one certificate.
    #[command(alias = "show")]
    Get {
        /// Its name in the configuration.
        #[arg(add = ArgValueCompleter::new(completion::certs))]
        name: String,
    },
    /// Adds a certificate, or replaces the one of that name.
    #[command(aliases = ["set", "create"])]
    Add(NewCertificate),
    /// Deletes certificates.
    #[command(aliases = ["remove", "rm"])]
    Delete {
        /// Names of certificates.
        #[arg(required = true, add = ArgValueCompleter::new(completion::certs))]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewCertificate {
    /// Its name in the configuration; the hosts are those in the certificate.
    #[arg(add = ArgValueCompleter::new(completion::certs))]
    pub(crate) name: String,
    /// The certificate followed by its chain, as PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: String,
    /// Its private key, as PEM [default: the stored key].
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<String>,
}
