//! docs/reference/metrics.md lists the metrics that the programs serve, with their types, labels and HELP texts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{collections::BTreeMap, fs, time::Duration};

use e2e::{Program, eventually, get};

#[path = "support/authority.rs"]
mod authority;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/metrics.md");
const BEGIN: &str = "<!-- Written by `WEIR_UPDATE=1 cargo test -p e2e --test metrics`. -->\n";
const HASH: &str = "$2b$04$DhQmjcy1jGDn6FXq3Cz6KeNpsOMnXNxIKcOZ2ZQiz7E1tWbGLYOwC";
const SOON: Duration = Duration::from_secs(20);

/// One family: its type, its HELP text and the names of its labels.
type Families = BTreeMap<String, (String, String, String)>;

/// The families of a page in the text format. Labels are those of the first sample.
fn families(page: &str) -> Families {
    let mut families = Families::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().1 = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else if let Some((name, labels)) = line.split_once('{')
            && let Some(family) = families.get_mut(name)
            && family.2.is_empty()
        {
            let labels = labels.split_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            family.2 = names.collect::<Vec<_>>().join(", ");
        }
    }
    families
}

/// Waits until a page has the family that comes last, and returns its families.
async fn scrape(address: &str, last: &str) -> anyhow::Result<Families> {
    eventually(last, SOON, async || {
        let answer = get(address, "/metrics").await.ok()?;
        let families = families(&answer.text());
        families.contains_key(last).then_some(families)
    })
    .await
}

fn table(title: &str, families: &Families) -> String {
    let mut text = format!("## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for (name, (kind, help, labels)) in families {
        let help = help.replace('|', "\\|");
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    text
}

#[tokio::test]
async fn the_reference_lists_the_metrics_that_the_programs_serve() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let authority = authority::Authority::new();
    authority.issue("site", &["a.example"]);
    let config = format!(
        "pools: [{{ name: p, backends: [{{ url: 'http://127.0.0.1:9' }}] }}]
routes:
  - name: r
    pool: p
    rate_limit: {{ requests: 1000, per: 1m, scope: node }}
    basic_auth: {{ realm: r, users: {{ anna: '{HASH}' }} }}
certificates: [{{ name: c, cert: '{}', key: '{}' }}]\n",
        authority.path("site.crt"),
        authority.path("site.key"),
    );
    fs::write(place("weir.yaml"), config)?;
    let database = place("weir.db");
    let control_plane = Program::start(
        "control-plane",
        &[
            "--database",
            &format!("sqlite:{database}"),
            "--admin",
            "127.0.0.1:0",
            "--nodes",
            "127.0.0.1:0",
            "--config",
            &place("weir.yaml"),
        ],
    )?;
    let node = Program::start(
        "data-plane",
        &[
            "--control-plane",
            &format!("unix:{database}.sock"),
            "--http",
            "127.0.0.1:0",
            "--status",
            "127.0.0.1:0",
            "--state-dir",
            &place("state"),
        ],
    )?;
    // Families without a sample are not served: the node needs its configuration, the control plane its node.
    let of_node = scrape(&node.address("status")?, "weir_node_passwords_checked_total").await?;
    let of_control_plane = scrape(&control_plane.address("admin")?, "weir_fleet_node_revision").await?;

    for (name, (kind, help, _)) in of_node.iter().chain(&of_control_plane) {
        assert!(!kind.is_empty() && !help.is_empty(), "{name} has no type or no HELP");
    }
    assert!(of_node.keys().all(|name| name.starts_with("weir_node_")), "{:?}", of_node.keys());
    assert!(of_control_plane.keys().all(|name| !name.starts_with("weir_node_")));
    let tables = format!(
        "\n{}\n{}",
        table("Metrics of a node", &of_node),
        table("Metrics of the control plane", &of_control_plane)
    );
    let page = fs::read_to_string(PAGE)?;
    let (head, committed) = page.split_once(BEGIN).expect("the page has its marker");
    if std::env::var_os("WEIR_UPDATE").is_some() {
        fs::write(PAGE, format!("{head}{BEGIN}{tables}"))?;
    } else {
        assert!(
            committed == tables,
            "docs/reference/metrics.md is not what the programs serve: WEIR_UPDATE=1"
        );
    }
    for name in head.split('`').filter(|text| text.starts_with("weir_") && !text.ends_with('_')) {
        let name = name.split('{').next().unwrap();
        assert!(
            of_node.contains_key(name) || of_control_plane.contains_key(name),
            "docs/reference/metrics.md names {name}, which no program serves"
        );
    }
    Ok(())
}
