//! `weir status`: overview of the fleet.

use weir_admin_api::{ConfigFile, RouteStatus, Status, operations};

use crate::{
    arguments::{Output, Watch},
    backends, certs,
    client::{Client, ClientError},
    nodes,
    output::{Column, Safe, Table, print_answer, shown, watch},
    report_table::reasons,
};

const REFUSED: [Column<RouteStatus>; 2] = [
    Column::new("route", |route| route.name.as_str().into()),
    Column::new("refused", |route| reasons(&route.refused)),
];

pub(crate) async fn run(
    client: &Client,
    output: Output,
    Watch { watch: every }: Watch,
) -> Result<(), ClientError> {
    watch(every, output, async || {
        print_answer(output, &client.ask(&operations::GET_STATUS, &(), &()).await?, |status| {
            text(&status, output)
        })
    })
    .await
}

fn text(status: &Status, output: Output) -> Safe {
    let mut text = Safe::new(&format!("revision {}", status.revision));
    if let Some(file) = &status.config_file {
        text.push_text(&drift(file));
    }
    text.gap();
    text.push(&Table::of(&backends::COLUMNS, &status.backends, output).render(output));
    text.gap();
    text.push(&nodes::table(&status.nodes, output));
    let refuses = |route: &&RouteStatus| route.refused.0.total() > 0;
    let refused: Vec<&RouteStatus> = status.routes.iter().filter(refuses).collect();
    if !refused.is_empty() {
        text.gap();
        text.push_text("refused by filters");
        text.push(&Table::of(&REFUSED, refused, output).render(output));
    }
    if !status.certificates.is_empty() {
        text.gap();
        text.push(&Table::of(&certs::COLUMNS, &status.certificates, output).render(output));
    }
    text
}

/// Describes how the configuration differs from the control plane's configuration file.
fn drift(file: &ConfigFile) -> String {
    let ConfigFile { drift_count: count, drift, .. } = file;
    let (path, applied) = (shown(&file.path), shown(&file.applied));
    if *count == 0 {
        return format!("configuration file {path}: no differences (applied {applied})");
    }
    let differences = if *count == 1 { "difference" } else { "differences" };
    let mut text = format!("configuration file {path}: {count} {differences} since it was applied {applied}");
    for difference in drift {
        text.push_str(&format!("\n  {}", shown(difference)));
    }
    if *count > drift.len() as u64 {
        text.push_str(&format!("\n  and {} more", count - drift.len() as u64));
    }
    text
}
