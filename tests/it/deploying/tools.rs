//! The tools that what lies in `deploy/` is for, as `tests/run` installs them.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// A file or folder of `deploy/`.
pub(super) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

/// What a file of `deploy/` says.
pub(super) fn text(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap()
}

/// A program of a Python package: `docker-compose`, `hadolint`, `kubernetes-validate`, `python`.
pub(super) fn program(name: &str) -> Command {
    Command::new(installed("venv/bin").join(name))
}

/// Kubernetes' own client.
pub(super) fn kubectl() -> Command {
    Command::new(installed("kubectl/kubectl/kubectl"))
}

fn installed(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join("deploy").join(path);
    assert!(
        path.exists(),
        "there is no {}: run tests/run --install-only",
        path.display()
    );
    path
}

/// Runs a command that must succeed, and gives all that it said.
pub(super) fn ran(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("{command:?}: {error}; tests/run --install-only installs it")
    });
    let said = said(&output);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    said
}

/// What a command said, on both of its outputs.
pub(super) fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// Runs a Python script that is given a text.
pub(super) fn python(script: &str, input: &str) -> Output {
    let mut child = program("python")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The documents of a YAML text.
pub(super) fn yaml(text: &str) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin)), default=str))";
    let output = python(script, text);
    assert!(output.status.success(), "{}\n{text}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one document of a YAML text.
pub(super) fn document(text: &str) -> Value {
    let documents = yaml(text);
    let [document] = <[Value; 1]>::try_from(documents).unwrap();
    document
}
