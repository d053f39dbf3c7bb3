//! Simulations from seeds: many in a row, or only the one that failed.
//!
//! A simulation does the same for the same seed, so a failure prints the seed that repeats it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs the seeds below `end`, or the one in `WSBCAST_SIM_SEED`. Returns the sum of the counts:
/// None for a single seed. Prints a seed that fails.
pub(crate) fn run_all<const N: usize>(
    end: u64,
    mut run: impl FnMut(u64) -> [u64; N],
) -> Option<[u64; N]> {
    if let Ok(seed) = std::env::var("WSBCAST_SIM_SEED") {
        run(seed.parse().expect("a number"));
        return None;
    }
    let mut counts = [0; N];
    for seed in 0..end {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(counted) => counts.iter_mut().zip(counted).for_each(|(all, one)| *all += one),
            Err(panic) => {
                eprintln!("failed: run it alone with WSBCAST_SIM_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    Some(counts)
}
