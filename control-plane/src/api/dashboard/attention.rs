//! The list of problems: every unhealthy backend, node and certificate, worst first, each with a link to the page with
//! details.

use maud::{Markup, html};
use weir_admin_api::{BackendState, BreakerState, CertificateState, NodeState, Status};

use super::{Page, format::time, layout::badge};
use crate::publish::CLOCK_OFF_MS;

/// The most problems that are listed.
const MOST: usize = 8;
/// A node that lags by less than this is expected to catch up.
const LAG_MS: u64 = 5_000;

/// A problem that an operator should look at.
struct Notice {
    is_bad: bool,
    page: Page,
    /// The backend, node or certificate concerned.
    about: String,
    says: String,
}

/// Empty if there are no problems.
pub(super) fn section(status: &Status) -> Markup {
    let mut notices = notices(status);
    notices.sort_by_key(|notice| !notice.is_bad);
    html! {
        @if !notices.is_empty() {
            section class="card" aria-label="Needs a look" {
                header { h2 { "Needs a look" } p { (notices.len()) @if notices.len() == 1 { " thing" } @else { " things" } } }
                ul class="notices" {
                    @for Notice { is_bad, page, about, says } in notices.iter().take(MOST) {
                        li {
                            (badge(if *is_bad { "bad" } else { "warn" }, says))
                            " " a href=(page.path()) { (about) }
                        }
                    }
                    @if notices.len() > MOST { li class="soft" { "and " (notices.len() - MOST) " more" } }
                }
            }
        }
    }
}

fn notices(status: &Status) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut add = |is_bad, page, about: String, says: String| {
        notices.push(Notice { is_bad, page, about, says });
    };
    for pool in status.pools.iter().filter(|pool| !pool.panic.is_empty()) {
        let says = format!(
            "panic mode on {}: backends that look dead get requests, except on routes with a fallback",
            pool.panic.join(", ")
        );
        add(true, Page::Pools, format!("pool {}", pool.name), says);
    }
    for backend in status.backends.iter().filter(|backend| backend.state == BackendState::Active) {
        let about = || format!("{} in pool {}", backend.url, backend.pool);
        if !backend.alive {
            add(true, Page::Pools, about(), format!("down: {}", backend.last_check));
        }
        match backend.breaker {
            BreakerState::Open => {
                let says = format!("breaker open on {}", backend.ejected_by.join(", "));
                add(true, Page::Pools, about(), says);
            }
            BreakerState::HalfOpen => {
                add(false, Page::Pools, about(), "breaker is trying it again".to_owned())
            }
            BreakerState::Closed => {}
        }
    }
    for node in &status.nodes {
        let about = || format!("node {}", node.id);
        match node.state {
            NodeState::Away => add(true, Page::Nodes, about(), format!("away since {}", time(&node.since))),
            NodeState::Rejected => {
                add(true, Page::Nodes, about(), format!("refused revision {}", node.rejected_revision));
            }
            NodeState::Behind if node.lag_ms > LAG_MS => {
                add(false, Page::Nodes, about(), format!("{} revisions behind", node.lag_revisions));
            }
            _ => {}
        }
        if node.dropped_rows > 0 {
            add(false, Page::Nodes, about(), format!("lost {} rows of counts", node.dropped_rows));
        }
        if node.forgotten_clients > 0 {
            let says = format!("rate limits had to forget {} clients", node.forgotten_clients);
            add(false, Page::Nodes, about(), says);
        }
        if node.excluded {
            add(false, Page::Nodes, about(), "its counts are left out of reports".to_owned());
        }
        if let Some(ms) = node.clock_offset_ms.filter(|ms| ms.abs() > CLOCK_OFF_MS) {
            add(false, Page::Nodes, about(), format!("its clock is off by {ms:+} ms"));
        }
    }
    if let Some(file) = status.config_file.as_ref().filter(|file| file.drift_count > 0) {
        let differences = if file.drift_count == 1 { "difference" } else { "differences" };
        let first = file.drift.first().map_or("", String::as_str);
        let says = format!("{} {differences} from the file, first: {first}", file.drift_count);
        add(false, Page::Revisions, format!("configuration file {}", file.path), says);
    }
    for certificate in &status.certificates {
        let about = format!("certificate {}", certificate.name);
        match certificate.state {
            CertificateState::Expired => add(true, Page::Routes, about, "expired".to_owned()),
            CertificateState::Early => add(false, Page::Routes, about, "not good yet".to_owned()),
            CertificateState::Soon => {
                add(false, Page::Routes, about, format!("{} days left", certificate.days_left));
            }
            CertificateState::Good => {}
        }
    }
    notices
}
