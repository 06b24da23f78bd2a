//! Environment variables of the programs: one meaning each, and their former names.

use std::time::Duration;

use e2e::{Program, eventually};

const ANY: &str = "127.0.0.1:0";
const SOON: Duration = Duration::from_secs(10);

async fn logged(program: &Program, text: &str) -> anyhow::Result<()> {
    eventually(text, SOON, async || program.log().contains(text).then_some(())).await
}

#[tokio::test]
async fn variables_of_servers_name_where_they_listen() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let database = format!("sqlite:{}", place("weir.db"));
    let (token, join) = (place("token"), place("join"));
    let control_plane = Program::start_in::<&str>(
        "control-plane",
        &["--nodes-tls"],
        &[
            ("WEIR_DATABASE", &database),
            ("WEIR_ADMIN_LISTEN", ANY),
            ("WEIR_NODES_LISTEN", ANY),
            ("WEIR_ADMIN_TOKEN_FILE", &token),
            ("WEIR_JOIN_TOKEN_FILE", &join),
            // Used by `weir` in the same environment.
            ("WEIR_ADMIN", "http://127.0.0.1:1"),
            ("WEIR_TOKEN_FILE", &join),
        ],
    )?;
    let nodes = format!("https://{}", control_plane.address("nodes")?);
    assert!(!control_plane.log().contains("environment variable"), "{}", control_plane.log());
    assert!(std::fs::read_to_string(&token)?.starts_with("weir_"));
    let node = Program::start_in::<&str>(
        "data-plane",
        &[],
        &[
            ("WEIR_CONTROL_PLANE", &nodes),
            ("WEIR_HTTP_LISTEN", ANY),
            ("WEIR_STATUS_LISTEN", ANY),
            ("WEIR_JOIN_TOKEN_FILE", &join),
            // A node does not use it.
            ("WEIR_TOKEN_FILE", &token),
        ],
    )?;
    logged(&node, "control plane connected").await?;
    assert!(!node.log().contains("environment variable"), "{}", node.log());
    Ok(())
}

#[tokio::test]
async fn former_names_are_read_with_a_notice() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let database = format!("sqlite:{}", place("weir.db"));
    let (token, join) = (place("token"), place("join"));
    let control_plane = Program::start_in::<&str>(
        "control-plane",
        &["--nodes-tls"],
        &[
            ("WEIR_DATABASE", &database),
            ("WEIR_ADMIN", ANY),
            ("WEIR_NODES", ANY),
            ("WEIR_TOKEN_FILE", &token),
            ("WEIR_JOIN_TOKEN_FILE", &join),
        ],
    )?;
    let nodes = format!("https://{}", control_plane.address("nodes")?);
    for name in ["WEIR_ADMIN_LISTEN", "WEIR_NODES_LISTEN", "WEIR_ADMIN_TOKEN_FILE"] {
        logged(&control_plane, name).await?;
    }
    assert!(std::fs::read_to_string(&token)?.starts_with("weir_"));
    let node = Program::start_in::<&str>(
        "data-plane",
        &[],
        &[
            ("WEIR_CONTROL_PLANE", &nodes),
            ("WEIR_HTTP", ANY),
            ("WEIR_STATUS", ANY),
            ("WEIR_TOKEN_FILE", &join),
        ],
    )?;
    logged(&node, "control plane connected").await?;
    for name in ["WEIR_HTTP_LISTEN", "WEIR_STATUS_LISTEN", "WEIR_JOIN_TOKEN_FILE"] {
        logged(&node, name).await?;
    }
    let mock = Program::start_in::<&str>("backend-mock", &[], &[("WEIR_LISTEN", ANY), ("WEIR_NAME", "one")])?;
    mock.address("listening")?;
    logged(&mock, "WEIR_MOCK_LISTEN").await?;
    Ok(())
}
