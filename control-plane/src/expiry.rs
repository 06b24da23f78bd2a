//! Logs when a certificate is about to expire: 30 days, 7 days and 1 day before, and when it has expired.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use weir_admin_api::CertificateState;
use weir_snapshot::{Chain, Snapshot};

use crate::{
    current::Watch,
    time::{now_s, rfc3339},
};

const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

const DAY: i64 = 86_400;

/// Days left at which a warning is logged.
const STEPS: [i64; 3] = [1, 7, 30];

/// The smallest step that was reached: `None` when more than 30 days are left, 0 when the certificate has expired.
fn step(chain: &Chain, now: i64) -> Option<i64> {
    let left = chain.seconds_left(now);
    if left <= 0 { Some(0) } else { STEPS.into_iter().find(|days| left <= days * DAY) }
}

/// Returns whether a certificate is valid, expired, not yet valid, or expires soon.
pub fn state(chain: &Chain, now: i64) -> CertificateState {
    match step(chain, now) {
        Some(0) => CertificateState::Expired,
        _ if chain.not_before > now => CertificateState::Early,
        Some(_) => CertificateState::Soon,
        None => CertificateState::Good,
    }
}

/// Checks once an hour and at each revision, until `stop`.
pub(crate) async fn watch(mut current: Watch, stop: CancellationToken) {
    let mut logged = HashMap::new();
    loop {
        let snapshot = Arc::clone(&current.borrow_and_update());
        log_steps(&snapshot.snapshot, now_s(), &mut logged);
        tokio::select! {
            changed = current.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Logs each step once per certificate, and returns the steps that it logged.
fn log_steps(
    snapshot: &Snapshot,
    now: i64,
    logged: &mut HashMap<(String, [u8; 32]), i64>,
) -> Vec<(String, i64)> {
    let own = snapshot.certificates.iter().map(|one| (format!("certificate {:?}", one.name), &one.chain));
    let pools = snapshot.pools.iter().filter_map(|pool| {
        Some((format!("client certificate of pool {:?}", pool.name), pool.tls.client.as_ref()?))
    });
    let (mut seen, mut new) = (HashMap::new(), Vec::new());
    for (what, chain) in own.chain(pools) {
        let Some(step) = step(chain, now) else { continue };
        let key = (what, chain.fingerprint);
        if logged.get(&key) != Some(&step) {
            let (certificate, not_after) = (&key.0, rfc3339(chain.not_after.saturating_mul(1000)));
            match step {
                0 => tracing::error!(certificate, not_after, "a certificate has expired; replace it"),
                _ => {
                    let days_left = chain.seconds_left(now) / DAY;
                    tracing::warn!(
                        certificate,
                        not_after,
                        days_left,
                        "a certificate expires soon; replace it"
                    );
                }
            }
            new.push((key.0.clone(), step));
        }
        seen.insert(key, step);
    }
    *logged = seen;
    new
}

#[cfg(test)]
mod tests {
    use weir_snapshot::{Config, check, config::Certificate};

    use super::*;

    #[test]
    fn each_step_is_logged_once() {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let certificate = Certificate { name: "a".into(), cert: made.cert.pem(), key: None };
        let snapshot = check(&Config { certificates: vec![certificate], ..Config::default() }).unwrap();
        let end = snapshot.certificates[0].chain.not_after;
        let mut logged = HashMap::new();
        let mut steps = |days_left: i64| -> Vec<i64> {
            let now = end - days_left * DAY;
            log_steps(&snapshot, now, &mut logged).into_iter().map(|(_, step)| step).collect()
        };
        assert!(steps(31).is_empty());
        assert_eq!(steps(30), [30]);
        assert!(steps(29).is_empty());
        assert_eq!(steps(7), [7]);
        assert_eq!(steps(1), [1]);
        assert_eq!(steps(0), [0]);
        assert!(steps(-1).is_empty());
        let chain = &snapshot.certificates[0].chain;
        assert_eq!(state(chain, end), CertificateState::Expired);
        assert_eq!(state(chain, end - 30 * DAY), CertificateState::Soon);
        assert_eq!(state(chain, end - 31 * DAY), CertificateState::Good);
        assert_eq!(state(chain, chain.not_before - 1), CertificateState::Early);
    }
}
