//! One upgrade, by any of its ways, and what everybody saw of it.

use std::time::Duration;

use anyhow::Result;
use testkit::{cli::name_of, clock, output};

use super::{
    args::{RunArgs, Way},
    memory::Watch,
    report::Upgrade,
    stage::Stage,
};

/// Until messages come again.
const SERVING_DEADLINE: Duration = Duration::from_secs(20);
/// So long everybody is looked at behind an upgrade.
const AFTERMATH: Duration = Duration::from_millis(500);
/// The metric of the server's own account, in seconds.
const PAUSE_METRIC: &str = "wsbcast_upgrade_pause_seconds";

/// Has the server replaced while everybody is amid something, and looks.
pub(crate) fn upgrade(
    stage: &mut Stage,
    args: &RunArgs,
    way: Way,
    threads: usize,
) -> Result<Upgrade> {
    stage.crowd.before_an_upgrade()?;
    stage.requests.before_an_upgrade();
    clock::pause(args.pause.duration());
    let watch = Watch::start(stage.server.running.pid(), stage.server.binary.clone())?;
    stage.crowd.window()?;
    let began_ns = clock::now_ns();
    let said = stage.server.replace(way, threads)?;
    stage.server.wait_until_ready()?;
    let seconds = clock::as_secs(clock::now_ns() - began_ns);
    let is_upgrade = way != Way::Restart;
    if is_upgrade {
        stage.wait_until_it_delivers(SERVING_DEADLINE)?;
    }
    stage.wait_until_it_accepts(args, SERVING_DEADLINE)?;
    clock::pause(AFTERMATH);
    let window = stage.crowd.window()?;
    let memory_mib = watch.end();
    stage.crowd.after_an_upgrade()?;
    stage.requests.after_an_upgrade();
    let pause_ms = if is_upgrade { stage.server.metric(PAUSE_METRIC)? } else { None };
    let pause_ms = pause_ms.map(|seconds| seconds * 1000.0);
    let threads = matches!(way, Way::TakeOver | Way::Restart).then_some(threads);
    output::remark(&format!(
        "{:6.1} s {} {threads:?}: {seconds:.2} s, silence {} ms, of all {} ms, delay {} ms",
        clock::as_secs(clock::now_ns()),
        name_of(&way),
        window.silence_ms,
        window.silence_of_all_ms,
        window.delay_ms
    ));
    Ok(Upgrade { way, threads, seconds, pause_ms, window, memory_mib, said })
}
