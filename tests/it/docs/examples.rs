//! The five lines by which a backend makes a token, as docs/security.md shows them: the server
//! takes what they make. Go is left out: its toolchain is too large for a test.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use super::page;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The lines of code below the line `language:`.
fn example(language: &str) -> String {
    let text = page("docs/security.md");
    let (_, rest) = text.split_once(&format!("\n{language}:\n\n")).expect("the page has it");
    let code = rest.lines().take_while(|line| line.starts_with("    "));
    code.map(|line| line.strip_prefix("    ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The output of `program` when it is given `code`.
fn run(program: &str, arguments: &[&str], code: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}, which scripts/test installs: {error}"));
    child.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} cannot run:\n{code}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The answer of `wsbcast token check` to `token`, with the options of the page.
fn check(token: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("jwt-secret");
    // As `openssl rand` writes it: with the end of a line.
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wsbcast"))
        .args(["token", "check", token, "--jwt-audience", "push.example", "--jwt-secret-file"])
        .arg(&secret)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn is_taken(token: &str) {
    let (is_good, said) = check(token);
    assert!(is_good && said.contains("user.7") && said.contains("room.*"), "{said}");
    let mut forged = token.to_owned();
    forged.insert(token.len() - 5, 'A');
    assert!(!check(&forged).0, "a token with another signature is none");
}

#[test]
fn a_token_made_in_node_is_taken() {
    let code = format!(
        "const [user, secret] = ['7', '{SECRET}']\n{}\nconsole.log(token)",
        example("Node")
    );
    is_taken(&run("node", &["-"], &code));
}

#[test]
fn a_token_made_in_python_is_taken() {
    let code = format!("user, secret = '7', '{SECRET}'\n{}\nprint(token)", example("Python"));
    is_taken(&run("python3", &["-"], &code));
}

#[test]
fn a_token_made_in_php_is_taken() {
    let code =
        format!("<?php\n[$user, $secret] = ['7', '{SECRET}'];\n{}\necho $token;", example("PHP"));
    is_taken(&run("php", &[], &code));
}
