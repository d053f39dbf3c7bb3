//! Programs of this workspace, built when a test of another one needs them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The wsbcast of this workspace, up to date, beside `tool`, a program of this workspace too.
///
/// # Panics
/// If it can't be built.
pub fn server_beside(tool: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/kit");
    let target = Path::new(tool).ancestors().nth(2).expect("a program has a target folder");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--bin", "wsbcast", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "wsbcast is built");
    target.join("debug/wsbcast")
}
