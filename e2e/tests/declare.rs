//! The configuration as a whole, with the real programs: diff, apply, reload, rollback, concurrent writers.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use e2e::{Fleet, Program, eventually, get, send};
use serde_json::Value;

/// Path of a program built by cargo.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    Ok(test.parent().and_then(|deps| deps.parent()).context("the test's program has no folder")?.join(name))
}

/// Runs `weir`; returns the exit status, the output and the error output.
fn weir(admin: &str, arguments: &[&str], input: &str) -> anyhow::Result<(i32, String, String)> {
    let mut child = Command::new(program("weir")?)
        .args(["--admin", &format!("http://{admin}")])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let code = output.status.code().context("killed")?;
    Ok((code, String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_compared_applied_and_rolled_back() -> anyhow::Result<()> {
    let fleet = Fleet::start(2, 2).await?;
    let admin = fleet.admin();
    let (code, exported, _) = weir(admin, &["export"], "")?;
    assert_eq!(code, 0);
    let (code, printed, _) = weir(admin, &["diff", "-f", "-"], &exported)?;
    assert_eq!((code, printed.as_str()), (0, "nothing differs from revision 2\n"));

    let changed = exported.replace("strategy: round_robin", "strategy: random");
    anyhow::ensure!(changed != exported, "{exported}");
    let (code, printed, _) = weir(admin, &["diff", "-f", "-"], &changed)?;
    assert_eq!(code, 1);
    assert_eq!(printed, "~ pool \"default\"\n~     strategy round_robin → random\n");

    let (code, printed, complained) = weir(admin, &["apply", "-f", "-", "--wait", "20s"], &changed)?;
    assert_eq!(code, 0, "{printed}{complained}");
    assert!(
        printed.starts_with("pool \"default\": strategy round_robin → random\nrevision 3\n"),
        "{printed}"
    );
    for node in ["node-0", "node-1"] {
        assert!(printed.contains(&format!("node {node} runs revision 3\n")), "{printed}");
    }
    let (code, printed, _) = weir(admin, &["apply", "-f", "-"], &changed)?;
    assert_eq!((code, printed.as_str()), (0, "nothing differs from revision 3\n"));

    let (code, _, complained) = weir(admin, &["rollback", "2", "--if-revision", "2"], "")?;
    assert_eq!(code, 1);
    assert!(complained.contains("revision 3 is current, not 2"), "{complained}");
    let (code, printed, _) = weir(admin, &["rollback", "2", "--if-revision", "3", "--wait", "20s"], "")?;
    assert_eq!(code, 0);
    assert!(printed.contains("strategy random → round_robin\nrevision 4\n"), "{printed}");
    assert_eq!(weir(admin, &["export"], "")?.1, exported);
    let (code, _, complained) = weir(admin, &["rollback", "99"], "")?;
    assert_eq!(code, 1);
    assert!(complained.contains("there is no revision 99: those from 1 to 4 are kept"), "{complained}");
    Ok(())
}

/// Each writer adds its own backend to the configuration that it has read.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_never_overwrite_each_other() -> anyhow::Result<()> {
    const EACH: usize = 10;
    let fleet = Fleet::start(0, 1).await?;
    let admin = fleet.admin().to_owned();
    let writer = |name: &'static str| {
        let admin = admin.clone();
        move || -> anyhow::Result<usize> {
            let mut refused = 0;
            for i in 0..EACH {
                loop {
                    let (_, status, _) = weir(&admin, &["--output", "json", "status"], "")?;
                    let revision = serde_json::from_str::<Value>(&status)?["revision"].to_string();
                    let (_, exported, _) = weir(&admin, &["--output", "json", "export"], "")?;
                    let mut config: Value = serde_json::from_str(&exported)?;
                    let backends = config["pools"][0]["backends"].as_array_mut().context("no backends")?;
                    backends.push(serde_json::json!({ "url": format!("http://{name}-{i}:80") }));
                    let arguments = ["apply", "-f", "-", "--if-revision", &revision];
                    match weir(&admin, &arguments, &config.to_string())? {
                        (0, ..) => break,
                        (_, _, complained) if complained.contains("is current, not") => refused += 1,
                        (_, _, complained) => anyhow::bail!(complained),
                    }
                }
            }
            Ok(refused)
        }
    };
    let (one, two) = (std::thread::spawn(writer("one")), std::thread::spawn(writer("two")));
    let refused = [one, two].map(|writer| writer.join().map_err(|_| anyhow::anyhow!("it panicked")));
    let refused = refused.into_iter().map(|refused| refused?).sum::<anyhow::Result<usize>>()?;
    let backends = fleet.status().await?["backends"].as_array().map_or(0, Vec::len);
    assert_eq!(backends, 1 + 2 * EACH, "every addition is there ({refused} were refused and tried again)");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_reloaded_by_signal_and_by_command() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("weir.yaml");
    let text = |strategy: &str| {
        format!("pools:\n- name: books\n  strategy: {strategy}\nroutes:\n- name: default\n  pool: books\n")
    };
    std::fs::write(&file, text("random"))?;
    let database = format!("sqlite:{}", folder.path().join("weir.db").display());
    let name = file.display().to_string();
    let arguments =
        ["--database", &database, "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0", "--config", &name];
    let mut program = Program::start("control-plane", &arguments)?;
    let admin = program.address("admin")?;
    let strategy = async || {
        let pool = get(&admin, "/pools/books").await.ok()?.json().ok()?;
        pool["strategy"].as_str().map(str::to_owned)
    };
    assert_eq!(strategy().await.as_deref(), Some("random"));

    std::fs::write(&file, text("peak_ewma"))?;
    program.hang_up()?;
    eventually("the new strategy", Duration::from_secs(20), async || {
        (strategy().await? == "peak_ewma").then_some(())
    })
    .await?;
    std::fs::write(&file, "pools: [")?;
    program.hang_up()?;
    eventually("the refusal in the log", Duration::from_secs(20), async || {
        program.log().contains("configuration file refused, nothing changed").then_some(())
    })
    .await?;
    let (code, _, complained) = weir(&admin, &["reload"], "")?;
    assert_eq!(code, 1, "{complained}");
    std::fs::write(&file, text("ip_hash"))?;
    let (code, printed, complained) = weir(&admin, &["reload"], "")?;
    assert_eq!(code, 0, "{complained}");
    assert_eq!(printed, "pool \"books\": strategy peak_ewma → ip_hash\nrevision 4\n");
    assert!(program.log().contains("strategy random → peak_ewma"), "{}", program.log());

    // An unchanged file is not applied at the next start.
    assert!(program.terminate(Duration::from_secs(20)).await?);
    let program = Program::start("control-plane", &arguments)?;
    let admin = program.address("admin")?;
    assert_eq!(get(&admin, "/status").await?.json()?["revision"], 4);
    Ok(())
}

/// Texts that are expensive or invalid, and a part of the expected message.
fn hostile() -> Vec<(&'static str, String, &'static str)> {
    let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..30 {
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", format!("*a{}, ", i - 1).repeat(10)));
    }
    let mut indented = String::new();
    (0..2000).for_each(|depth| indented.push_str(&format!("{}a:\n", " ".repeat(depth))));
    let mut wrong = String::from("pools:\n- name: p\n  backends:\n");
    (0..50_000).for_each(|i| wrong.push_str(&format!("  - {{ url: \"x{i}\", wieght: 1 }}\n")));
    let route = "pools: [{ name: p }]\nroutes:\n";
    vec![
        ("an anchor bomb", bomb, "alias"),
        ("an alias of itself", "pools: &a [*a]\n".into(), "alias"),
        ("merges without end", "x: &x { <<: *x }\npools: []\n".into(), "alias"),
        ("50 MB of comments", "# weir\n".repeat((50 << 20) / 7), "too large"),
        ("50 MB in one word", format!("pools: {}", "x".repeat(50 << 20)), "too large"),
        ("a million items", format!("pools: [{}]", "1,".repeat(1_000_000)), "too many values"),
        ("deep lists", format!("pools: {}{}", "[".repeat(100_000), "]".repeat(100_000)), "deep"),
        ("deep mappings", format!("{}1{}", "{a: ".repeat(100_000), "}".repeat(100_000)), "deep"),
        ("deep indentation", indented, "deep"),
        ("a duplicate key", "pools:\n- name: p\n  name: q\n".into(), "duplicate key \"name\""),
        ("a duplicate pool", "pools: [{ name: p }, { name: p }]\n".into(), "duplicate pool name"),
        ("a number for a list", "pools: 7\n".into(), "pools must be a list"),
        ("a list for a mapping", "settings: [1]\n".into(), "settings must be a mapping"),
        (
            "a word for a number",
            format!("{route}- {{ name: r, pool: p, fallback: {{ status: ok }} }}\n"),
            "status",
        ),
        ("fifty thousand mistakes", wrong, "more"),
        ("no text", "pools: \u{0}".into(), "unexpected character"),
    ]
}

/// None of them takes long; the time is limited only by the timeouts of the client and of the test.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_are_rejected_offline_and_by_the_control_plane() -> anyhow::Result<()> {
    let fleet = Fleet::start(0, 1).await?;
    let admin = fleet.admin();
    let folder = tempfile::tempdir()?;
    let before = fleet.status().await?["revision"].clone();
    for (what, text, says) in hostile() {
        let file = folder.path().join("weir.yaml");
        std::fs::write(&file, &text)?;
        let name = file.display().to_string();
        let (code, printed, complained) = weir(admin, &["check", &name], "")?;
        assert_eq!(code, 1, "{what}: {printed}{complained}");
        assert!(printed.len() + complained.len() < 1 << 20, "{what}: {} bytes of output", printed.len());
        let said = format!("{printed}{complained}");
        assert!(said.contains(says), "{what} is not named by {says:?}: {}", &said[..said.len().min(500)]);
        let (code, _, complained) = weir(admin, &["apply", "-f", &name], "")?;
        assert_eq!(code, 1, "{what}: {complained}");
        if text.len() < 32 << 20 {
            let answer = send("PUT", admin, "/config", &text).await?;
            assert_eq!(answer.status, 400, "{what}: {answer:?}");
            let told = answer.text();
            assert!(told.contains(&says.replace('"', "\\\"")), "{what}: {}", &told[..told.len().min(500)]);
        }
    }
    assert_eq!(fleet.status().await?["revision"], before, "nothing was stored");
    // The control plane itself rejects a text that is too large while it arrives.
    let large = "# weir\n".repeat((17 << 20) / 7);
    let answer = send("PUT", admin, "/config", &large).await?;
    assert_eq!(answer.status, 413, "{answer:?}");
    Ok(())
}
