//! The control plane is killed at any moment of an apply: the database always opens at a complete revision.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use e2e::{Program, eventually, get, send};
use serde_json::{Value, json};

/// Number of kills over all lanes.
const KILLS: usize = 200;

/// Databases used in parallel: a start waits for the disk more than for the processor.
const LANES: usize = 4;

/// Backends of a configuration: this many rows have to change together.
const BACKENDS: usize = 40;

/// A configuration in which each backend, the route's limit and the strategy differ from the previous one.
fn configuration(number: usize) -> Value {
    let backends: Vec<Value> = (0..BACKENDS)
        .map(|n| json!({ "url": format!("http://10.{}.{}.{}:80", number >> 8, number & 255, n + 1) }))
        .collect();
    let strategy = ["random", "least_connections", "power_of_two"][number % 3];
    json!({
        "pools": [{ "name": "default", "strategy": strategy, "health_check": { "type": "none" }, "backends": backends }],
        "routes": [{ "name": "default", "pool": "default", "limits": { "max_body": format!("{}KiB", number + 1) } }],
    })
}

/// The number of this configuration; `None` if it is not completely one of those that were applied.
fn number(config: &Value) -> Option<usize> {
    let first = config["pools"][0]["backends"][0]["url"].as_str()?.to_owned();
    let parts: Vec<usize> =
        first.trim_start_matches("http://10.").split(['.', ':']).flat_map(str::parse).collect();
    let number = parts.first()? << 8 | parts.get(1)?;
    let expected = configuration(number);
    let urls = |config: &Value| -> BTreeSet<String> {
        let backends = config["pools"][0]["backends"].as_array().cloned().unwrap_or_default();
        backends.iter().filter_map(|backend| backend["url"].as_str().map(str::to_owned)).collect()
    };
    let is_same = urls(config) == urls(&expected)
        && config["pools"][0]["strategy"] == expected["pools"][0]["strategy"]
        && config["routes"][0]["limits"] == expected["routes"][0]["limits"]
        && config["pools"].as_array()?.len() == 1;
    is_same.then_some(number)
}

fn start(database: &str) -> Program {
    Program::start(
        "control-plane",
        &["--database", database, "--admin", "127.0.0.1:0", "--nodes", "127.0.0.1:0"],
    )
    .unwrap()
}

/// The current configuration and its revision. Nothing changes it meanwhile.
async fn stored(admin: &str) -> (Value, u64) {
    let ask = async |path: &str| {
        let answer = get(admin, path).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json().unwrap()
    };
    let (pools, routes) = (ask("/pools").await, ask("/routes").await);
    let config = json!({ "pools": pools["items"], "routes": routes["items"] });
    (config, ask("/status").await["revision"].as_u64().unwrap())
}

async fn lane(lane: usize) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("weir.db").display());
    let mut program = start(&database);
    let mut admin = program.address("admin").unwrap();
    let begun = Instant::now();
    let first = send("PUT", &admin, "/config", &configuration(0).to_string()).await.unwrap();
    assert_eq!(first.status, 200, "{first:?}");
    let took = begun.elapsed();
    let (mut old, mut revision) = (0, 2);
    let (mut kept, mut lost) = (0, 0);
    for kill in 0..KILLS / LANES {
        let new = old + 1;
        let body = configuration(new).to_string();
        let applying = tokio::spawn({
            let admin = admin.clone();
            async move { send("PUT", &admin, "/config", &body).await.is_ok_and(|answer| answer.status == 200) }
        });
        // Evenly distributed from before the call arrives to after its response, however busy the machine is.
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let part = ((kill * LANES + lane) as f64 * 0.618_034).fract();
        if kill % 10 == 9 {
            // A change with a success response is stored.
            eventually("a response", Duration::from_secs(30), async || applying.is_finished().then_some(()))
                .await
                .unwrap();
        } else {
            tokio::time::sleep(took.mul_f64(1.5 * part)).await;
        }
        let answered = applying.is_finished();
        program.kill();
        let acknowledged = applying.await.unwrap();
        assert!(acknowledged || !answered, "refused");

        program = start(&database);
        admin = program.address("admin").unwrap();
        let (now, at) = stored(&admin).await;
        let found = number(&now).unwrap_or_else(|| panic!("kill {kill}: neither {old} nor {new}: {now}"));
        assert!(found == old || found == new, "kill {kill}: {found} is neither {old} nor {new}");
        assert!(!acknowledged || found == new, "kill {kill}: an acknowledged change is lost");
        revision += u64::from(found == new);
        assert_eq!(at, revision, "kill {kill}: the revision's number and its content are of one moment");
        if found == new {
            kept += 1
        } else {
            lost += 1
        }
        old = found;
    }
    (kept, lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_of_an_apply_leaves_a_complete_revision() {
    let lanes: Vec<_> = (0..LANES).map(|n| tokio::spawn(lane(n))).collect();
    let (mut kept, mut lost) = (0, 0);
    for lane in lanes {
        let (more_kept, more_lost) = lane.await.unwrap();
        kept += more_kept;
        lost += more_lost;
    }
    println!("{KILLS} kills: {kept} after the revision was stored, {lost} before");
    assert_eq!(kept + lost, KILLS);
    assert!(kept > 0 && lost > 0, "the kills all came at the same moment: {kept} and {lost}");
}
