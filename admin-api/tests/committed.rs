//! The committed description of the API is the generated one, so that every change of the API shows in a review.
//!
//! `WEIR_UPDATE=1 cargo test -p weir-admin-api --test committed` writes the files.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

fn compare(name: &str, generated: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(name);
    if std::env::var_os("WEIR_UPDATE").is_some() {
        fs::write(&file, generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/reference/{name} is not what the declarations say; write it with \
         WEIR_UPDATE=1 cargo test -p weir-admin-api --test committed"
    );
}

#[test]
fn the_committed_openapi_document_is_the_generated_one() {
    compare("openapi.json", &weir_admin_api::openapi::text());
}

#[test]
fn the_committed_reference_is_the_generated_one() {
    compare("api.md", &weir_admin_api::reference::text());
}
