//! Puts the commit into `--version` and `build_info`.
//!
//! `WSBCAST_BUILD_COMMIT` wins (an image build passes it, since it has no `.git`); else git is
//! asked, if it is there and the sources are a checkout; else the commit is `unknown`. Nothing
//! here may fail a build.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=WSBCAST_BUILD_COMMIT");
    let given = env::var("WSBCAST_BUILD_COMMIT").ok().filter(|text| is_commit(text));
    let commit = given.or_else(commit_of_checkout).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=WSBCAST_COMMIT={commit}");
}

fn commit_of_checkout() -> Option<String> {
    // Without this an unpacked archive inside some other repository would name that one's commit.
    if !Path::new(".git").exists() {
        return None;
    }
    let directory = git(&["rev-parse", "--absolute-git-dir"])?;
    // A path that does not exist would make every build run this again.
    for file in ["HEAD", "logs/HEAD"] {
        let path = Path::new(&directory).join(file);
        if path.exists() {
            println!("cargo:rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short", "HEAD"]).filter(|text| is_commit(text))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
