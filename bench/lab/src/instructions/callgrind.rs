//! Runs a piece of work under valgrind's callgrind and reads how many instructions it took.
//!
//! Collection is on inside the one measured function only, with all that it calls; start-up and
//! preparation are not counted.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use testkit::cli::name_of;

use super::workloads::Workload;

/// glibc picks its memcpy by the processor: without these two every machine takes the same one.
const C_LIBRARY_TUNABLES: &str = "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM";

/// Instructions within the workload's measured function, all calls together.
pub(super) fn count(workload: Workload) -> Result<u64> {
    let lab = std::env::current_exe().context("the path of lab")?;
    let file = format!("lab-callgrind-{}-{}", std::process::id(), name_of(&workload));
    let file = std::env::temp_dir().join(file);
    let result = count_into(&file, &lab, workload);
    // Missing if valgrind failed early.
    let _ = fs::remove_file(&file);
    result
}

fn count_into(file: &Path, lab: &Path, workload: Workload) -> Result<u64> {
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect=*{}*", workload.function()))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(lab)
        .args(["instructions", "--workload", &name_of(&workload)])
        .env("GLIBC_TUNABLES", C_LIBRARY_TUNABLES)
        .output()
        .context("starting valgrind: is it installed?")?;
    ensure!(
        output.status.success(),
        "valgrind ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = fs::read_to_string(file).context("what callgrind wrote")?;
    let counted = total(&text).context("callgrind's file without a total")?;
    ensure!(counted > 0, "{} was never entered", workload.function());
    Ok(counted)
}

/// The line `totals: N` of callgrind's file.
fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_at_the_end_of_the_file() {
        let text = "events: Ir\nsummary: 7\n\nfn=(0) main\n1 7\n\ntotals: 12345\n";
        assert_eq!(total(text), Some(12_345));
        assert_eq!(total("events: Ir\n"), None);
    }
}
