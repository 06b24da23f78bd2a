//! A certificate is replaced repeatedly while clients connect at a steady rate: no handshake fails.
//!
//! `WEIR_HANDSHAKES` is the number of clients per second, `WEIR_REPLACEMENTS` the number of replacements, and
//! `WEIR_PROGRAMS` the folder of programs other than those of the test's own build.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "support/authority.rs"]
mod authority;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use authority::Authority;
use e2e::{Fleet, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, HandshakeKind, RootCertStore,
        client::Resumption,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Results of the clients.
#[derive(Default)]
struct Seen {
    /// Clients started.
    begun: AtomicU64,
    /// Full handshakes, each followed by a response.
    good: AtomicU64,
    failed: Mutex<Vec<String>>,
    /// The certificate in the last handshake, and the key exchange.
    shown: Mutex<(Vec<u8>, String)>,
    stop: AtomicBool,
}

/// Starts clients on schedule, however long the previous ones take.
async fn clients(seen: Arc<Seen>, address: String, config: Arc<ClientConfig>, rate: u64, begun: Instant) {
    while !seen.stop.load(Relaxed) {
        let n = seen.begun.fetch_add(1, Relaxed);
        tokio::time::sleep_until((begun + Duration::from_secs(1) * n as u32 / rate as u32).into()).await;
        match tokio::time::timeout(Duration::from_secs(20), visit(&address, &config)).await {
            Ok(Ok(shown)) => {
                seen.good.fetch_add(1, Relaxed);
                *seen.shown.lock().unwrap() = shown;
            }
            Ok(Err(error)) => seen.failed.lock().unwrap().push(error.to_string()),
            Err(_) => seen.failed.lock().unwrap().push("it took too long".into()),
        }
    }
}

/// A full handshake that verifies the certificate, and a request; returns the certificate and the key exchange.
async fn visit(address: &str, config: &Arc<ClientConfig>) -> anyhow::Result<(Vec<u8>, String)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("a.example")?;
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    stream.write_all(b"GET /books/1 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let (_, tls) = stream.get_ref();
    anyhow::ensure!(tls.handshake_kind() != Some(HandshakeKind::Resumed), "a session was resumed");
    let certificate = tls.peer_certificates().map(|chain| chain[0].to_vec()).unwrap_or_default();
    let group = tls.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()));
    Ok((certificate, group.unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_handshake_fails_while_a_certificate_is_replaced() -> anyhow::Result<()> {
    let (rate, replacements) = (number("WEIR_HANDSHAKES", 50), number("WEIR_REPLACEMENTS", 5));
    let authority = Authority::new();
    let mut fleet = Fleet::start(0, 2).await?;
    let add = |fleet: &Fleet| {
        authority.issue("a", &["a.example"]);
        let (cert, key) = (authority.path("a.crt"), authority.path("a.key"));
        tokio::task::block_in_place(|| fleet.weir(&["certs", "add", "a", "--cert", &cert, "--key", &key]))?;
        anyhow::Ok(CertificateDer::from_pem_file(authority.file("a.crt"))?.to_vec())
    };
    add(&fleet)?;
    fleet.add_node(&["--https", "127.0.0.1:0", "--workers", "2"])?;
    fleet.ready(0).await?;

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file("ca.pem"))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let (config, seen, begun) = (Arc::new(config), Arc::new(Seen::default()), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        tasks.spawn(clients(
            Arc::clone(&seen),
            fleet.nodes[0].address("https")?,
            Arc::clone(&config),
            rate,
            begun,
        ));
    }
    for _ in 0..replacements {
        let (new, before) = (add(&fleet)?, seen.good.load(Relaxed));
        eventually("the new certificate", Duration::from_secs(30), async || {
            let is_shown = seen.shown.lock().unwrap().0 == new;
            (is_shown && seen.good.load(Relaxed) >= before + rate / 2).then_some(())
        })
        .await?;
    }
    let (good, elapsed) = (seen.good.load(Relaxed), begun.elapsed());
    seen.stop.store(true, Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    println!(
        "{good} full handshakes ({}) in {elapsed:.1?}, {:.0} a second of {rate}; {replacements} replacements",
        seen.shown.lock().unwrap().1,
        good as f64 / elapsed.as_secs_f64()
    );
    let failed = seen.failed.lock().unwrap();
    assert!(failed.is_empty(), "{} failed, first {:?}", failed.len(), failed.first());
    assert_eq!(seen.good.load(Relaxed), seen.begun.load(Relaxed));
    Ok(())
}
