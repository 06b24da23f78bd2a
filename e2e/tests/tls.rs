//! Certificates, sessions and backends over TLS, with the real programs and common tools: curl, openssl.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "support/authority.rs"]
mod authority;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use e2e::{Fleet, Program, eventually};

use authority::Authority;

/// Whether the tool is installed; CI requires it.
fn has(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is missing");
    if !found {
        eprintln!("SKIPPED: {tool} is missing");
    }
    found
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `curl --resolve`.
fn curl(host: &str, address: &str, ca: &Path) -> Output {
    let port = address.rsplit_once(':').unwrap().1;
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--resolve"])
        .arg(format!("{host}:{port}:127.0.0.1"))
        .arg("--cacert")
        .arg(ca)
        .args(["--write-out", "\n%{http_code} %{http_version}\n"])
        .arg(format!("https://{host}:{port}/books"))
        .output()
        .unwrap()
}

fn s_client(address: &str, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", address, "-servername", "a.example"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write as _;
            // Waits for a response, so that the session ticket, which follows the handshake, has arrived.
            let request = b"GET /books HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
            // With -reconnect, openssl closes the pipe on its own.
            let _ = child.stdin.take().map(|mut stdin| stdin.write_all(request));
            child.wait_with_output()
        })
        .unwrap();
    text(&output)
}

async fn fleet(nodes: usize, authority: &Authority) -> anyhow::Result<(Fleet, Vec<String>)> {
    let mut fleet = Fleet::start(0, 2).await?;
    authority.issue("a", &["a.example", "localhost"]);
    authority.issue("b", &["*.b.example"]);
    for name in ["a", "b"] {
        let (cert, key) = (authority.path(&format!("{name}.crt")), authority.path(&format!("{name}.key")));
        let said = fleet.weir(&["certs", "add", name, "--cert", &cert, "--key", &key])?;
        assert!(said.contains("valid until 2040-01-01T00:00:00Z"), "{said}");
    }
    let mut https = Vec::new();
    for node in 0..nodes {
        fleet.add_node(&["--https", "127.0.0.1:0", "--workers", "2"])?;
        fleet.ready(node).await?;
        https.push(fleet.nodes[node].address("https")?);
    }
    Ok((fleet, https))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_have_two_certificates_and_one_is_replaced() -> anyhow::Result<()> {
    if !has("curl") {
        return Ok(());
    }
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (fleet, https) = fleet(1, &authority).await?;
    for host in ["a.example", "shop.b.example"] {
        let got = curl(host, &https[0], &authority.file("ca.pem"));
        assert!(text(&got).contains("\n200 "), "{host}: {}", text(&got));
    }
    let got = curl("c.example", &https[0], &authority.file("ca.pem"));
    assert!(!got.status.success(), "no certificate has that name: {}", text(&got));
    assert!(fleet.weir(&["status"])?.contains("*.b.example"));
    let listed = fleet.weir(&["certs", "list"])?;
    assert!(listed.contains("a.example") && listed.contains("good"), "{listed}");

    stranger.issue("a", &["a.example"]);
    let wrong = ["certs", "add", "a", "--cert", &stranger.path("a.crt"), "--key", &authority.path("a.key")];
    let refused = fleet.weir(&wrong).unwrap_err().to_string();
    assert!(refused.contains("key: ") && refused.contains("another certificate"), "{refused}");
    fleet.weir(&[
        "certs",
        "add",
        "a",
        "--cert",
        &stranger.path("a.crt"),
        "--key",
        &stranger.path("a.key"),
    ])?;
    eventually("the new certificate", Duration::from_secs(10), async || {
        curl("a.example", &https[0], &stranger.file("ca.pem")).status.success().then_some(())
    })
    .await?;
    // The previous key is found again.
    fleet.weir(&["rollback", "4"])?;
    eventually("the previous certificate", Duration::from_secs(10), async || {
        curl("a.example", &https[0], &authority.file("ca.pem")).status.success().then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_can_be_resumed_on_another_node() -> anyhow::Result<()> {
    if !has("openssl") {
        return Ok(());
    }
    let authority = Authority::new();
    let (_fleet, https) = fleet(2, &authority).await?;
    let again = s_client(&https[0], &["-reconnect", "-tls1_2"]);
    assert_eq!(again.matches("Reused, TLSv1.2").count(), 5, "{again}");
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let session = authority.path(&format!("session{version}"));
        let first = s_client(&https[0], &[version, "-ign_eof", "-sess_out", &session]);
        assert!(first.contains(&format!("New, {name}")), "{first}");
        for (i, address) in https.iter().enumerate() {
            let next = s_client(address, &[version, "-ign_eof", "-sess_in", &session]);
            assert!(next.contains(&format!("Reused, {name}")), "node {i}: {next}");
            assert!(next.contains("HTTP/1.1 200"), "{next}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_over_tls_is_probed_and_served_with_a_client_certificate() -> anyhow::Result<()> {
    let authority = Authority::new();
    authority.issue("backend", &["books.internal"]);
    authority.issue("client", &["fleet.internal"]);
    let mut fleet = Fleet::start(1, 0).await?;
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        &authority.path("backend.crt"),
        "--tls-key",
        &authority.path("backend.key"),
        "--tls-client-ca",
        &authority.path("ca.pem"),
    ];
    fleet.mocks.push(Program::start("backend-mock", &arguments)?);
    let address = fleet.mocks[0].address("listening")?;
    let file = |tls: &str| {
        let text = format!(
            "pools:\n  - name: default\n    tls: {{ {tls} }}\n    health_check: {{ type: http, path: /health, interval: 200ms, rise: 1, fall: 1 }}\n    backends: [{{ url: \"https://{address}\" }}]\nroutes: [{{ name: default, pool: default }}]\n"
        );
        let path = authority.file("weir.yaml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let backend = async |health: &str| {
        eventually("the probe's finding", Duration::from_secs(10), async || {
            let status = fleet.status().await.ok()?;
            let backend = status["backends"].as_array()?.first()?.clone();
            (backend["health"] == health)
                .then(|| backend["last_check"].as_str().unwrap_or_default().to_owned())
        })
        .await
    };
    let cases = [
        (
            "server_name: books.internal, ca: ca.pem, cert: client.crt, key: client.key",
            "up",
            "status 200",
            200,
        ),
        ("server_name: other.internal, ca: ca.pem, cert: client.crt", "down", "not valid for name", 502),
        ("server_name: books.internal, ca: ca.pem, cert: client.crt", "up", "status 200", 200),
        ("server_name: books.internal, ca: ca.pem", "down", "", 502),
        ("server_name: books.internal, cert: client.crt", "down", "UnknownIssuer", 502),
    ];
    for (tls, health, says, status) in cases {
        fleet.weir(&["apply", "-f", &file(tls), "--wait", "10s"])?;
        let found = backend(health).await?;
        assert!(found.contains(says), "{tls}: {found}");
        let answer = e2e::get(&fleet.http(0)?, "/books").await?;
        assert_eq!(answer.status, status, "{tls}: {answer:?}; {}", fleet.nodes[0].log());
    }
    let missing = fleet.weir(&["apply", "-f", &file("ca: gone.pem")]).unwrap_err().to_string();
    assert!(missing.contains("weir.yaml:3:"), "{missing}");
    assert!(missing.contains(": pools[0].tls.ca: cannot read gone.pem"), "{missing}");
    Ok(())
}
