//! The cost of calls in a large fleet: the command line's whole-file commands, and single changes.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    process::ControlPlane,
    scenario::{Size, call, configuration, percentile},
};
use crate::process::free_addresses;

/// Repetitions of a single change.
const TIMES: u32 = 60;

/// The cost of a call, in milliseconds.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Cost {
    /// Description of the call.
    pub what: String,
    /// Time until the response or the end of the program; the median if there are several calls.
    pub wall_ms: f64,
    /// The longest time.
    pub most_ms: f64,
    /// CPU time of the control plane per call.
    pub control_plane_ms: f64,
    /// CPU time of the calling program; 0 if it is this program.
    pub program_ms: f64,
}

impl Cost {
    /// Header of the lines that [`show`](Self::show) returns.
    pub const HEAD: &'static str =
        "call                                      |  wall ms  most | control plane CPU ms | program CPU ms";

    /// The cost as one line of a table.
    pub fn show(&self) -> String {
        let Self { what, wall_ms, most_ms, control_plane_ms, program_ms } = self;
        format!("{what:<41} | {wall_ms:>8.1} {most_ms:>5.0} | {control_plane_ms:>20.1} | {program_ms:>14.0}")
    }
}

/// CPU time of this program's finished child processes.
fn children() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').context("no process name in /proc/self/stat")?.1;
    let ticks = after.split_whitespace().skip(13).take(2).filter_map(|n| n.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

struct Desk<'a> {
    control_plane: ControlPlane,
    weir: &'a Path,
    folder: &'a Path,
    report: &'a mut dyn FnMut(&Cost),
}

impl Desk<'_> {
    /// Runs `weir`, which must end with this status, and returns its output.
    fn weir(&mut self, what: &str, arguments: &[&str], status: i32) -> anyhow::Result<String> {
        let (own, other, begun) = (children()?, self.control_plane.cpu()?, Instant::now());
        let output = Command::new(self.weir)
            .args(["--admin", &format!("http://{}", self.control_plane.admin)])
            .args(arguments)
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .output()?;
        let wall_ms = ms(begun.elapsed());
        anyhow::ensure!(
            output.status.code() == Some(status),
            "{what}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        (self.report)(&Cost {
            what: what.to_owned(),
            wall_ms,
            most_ms: wall_ms,
            control_plane_ms: ms(self.control_plane.cpu()? - other),
            program_ms: ms(children()? - own),
        });
        Ok(String::from_utf8(output.stdout)?)
    }

    fn calls(
        &mut self,
        what: &str,
        made: impl Fn(u32) -> (&'static str, String, Value),
    ) -> anyhow::Result<()> {
        let (mut each, cpu) = (Vec::new(), self.control_plane.cpu()?);
        for n in 0..TIMES {
            let (method, path, body) = made(n);
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let begun = Instant::now();
            call(self.control_plane.admin, method, &path, &body)?;
            each.push(ms(begun.elapsed()));
        }
        let cpu = ms(self.control_plane.cpu()? - cpu) / f64::from(TIMES);
        each.sort_by(f64::total_cmp);
        (self.report)(&Cost {
            what: what.to_owned(),
            wall_ms: percentile(&each, 0.5),
            most_ms: percentile(&each, 1.0),
            control_plane_ms: cpu,
            program_ms: 0.0,
        });
        Ok(())
    }

    fn routes(&mut self, size: Size) -> anyhow::Result<()> {
        let Size { backends, routes, .. } = size;
        let path = |n: u32| format!("/routes/extra-{n}");
        self.calls(&format!("a route added to {routes} ({backends} backends)"), |n| {
            let route = json!({ "match": { "path": format!("/extra/{n}") }, "pool": "default" });
            ("PUT", path(n), route)
        })?;
        self.calls(&format!("a route removed from {routes} ({backends} backends)"), |n| {
            ("DELETE", path(n), Value::Null)
        })
    }
}

/// Measures each call with a configuration of this size, and adding routes to smaller ones; calls `report` with each
/// result.
///
/// # Errors
/// A call failed.
pub fn measure(program: &Path, weir: &Path, size: Size, mut report: impl FnMut(&Cost)) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let [admin, nodes] = free_addresses::<2>()?;
    let control_plane = ControlPlane::start(program, folder.path(), admin, nodes)?;
    let mut desk = Desk { control_plane, weir, folder: folder.path(), report: &mut report };
    fs::write(folder.path().join("json"), configuration(size, &[]).to_string())?;
    desk.weir("weir apply, all of it new, from JSON", &["apply", "-f", "json"], 0)?;
    let yaml = desk.weir("weir export", &["export"], 0)?;
    fs::write(folder.path().join("yaml"), &yaml)?;
    desk.weir("weir check", &["check", "yaml"], 0)?;
    desk.weir("weir diff, nothing differs", &["diff", "-f", "yaml"], 0)?;
    desk.weir("weir apply, nothing differs", &["apply", "-f", "yaml"], 0)?;
    let mut one = configuration(size, &[]);
    one["pools"][0]["backends"][0]["weight"] = json!(7);
    fs::write(folder.path().join("one"), one.to_string())?;
    desk.weir("weir diff, one weight", &["diff", "-f", "one"], 1)?;
    desk.weir("weir apply, one weight", &["apply", "-f", "one"], 0)?;
    let mut all = configuration(size, &[]);
    for pool in all["pools"].as_array_mut().into_iter().flatten() {
        pool["backends"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .for_each(|backend| backend["weight"] = json!(5));
    }
    fs::write(folder.path().join("all"), all.to_string())?;
    desk.weir("weir diff, all weights", &["diff", "-f", "all"], 1)?;
    desk.weir("weir apply, all weights", &["apply", "-f", "all"], 0)?;
    desk.weir("weir rollback of that", &["rollback", "3"], 0)?;
    desk.weir("weir status", &["status"], 0)?;
    let backends = u32::try_from(size.backends)?.max(1);
    desk.calls("a backend's weight", |n| {
        ("PATCH", format!("/backends/b{}", 1 + (n * 37) % backends), json!({ "weight": 2 + n % 900 }))
    })?;
    desk.routes(size)?;
    drop(desk);
    for (backends, pools, routes) in [
        (size.backends, size.pools, size.routes * 2 / 5),
        (size.backends, size.pools, 10),
        (2, 1, size.routes),
        (2, 1, size.routes * 2 / 5),
        (2, 1, 10),
    ] {
        let folder = tempfile::tempdir()?;
        let [admin, nodes] = free_addresses::<2>()?;
        let control_plane = ControlPlane::start(program, folder.path(), admin, nodes)?;
        let size = Size { backends, pools, routes, ..size };
        call(admin, "PUT", "/config", &configuration(size, &[]).to_string())?;
        Desk { control_plane, weir, folder: folder.path(), report: &mut report }.routes(size)?;
    }
    Ok(())
}
