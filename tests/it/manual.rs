//! The manual pages and the shells' completions, by the programs that they are for.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::worker::{callvault, command};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// The names of the commands under another one, as its help lists them.
fn commands(path: &[&str]) -> Vec<String> {
    let help = done(&callvault(path.iter().copied().chain(["--help"])));
    let list = help.split_once("\nCommands:\n").unwrap().1;
    let list = list.split_once("\n\n").unwrap().0;
    let names = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

/// A page as a terminal shows it; what its reader complains of fails the test.
fn rendered(page: &Path) -> String {
    let groff = Command::new("groff")
        .args(["-man", "-ww", "-Tascii", "-P-cbou"])
        .arg(page)
        .output()
        .expect("groff: tests/run installs it");
    done(&groff)
}

#[test]
fn each_command_has_a_page_that_its_reader_shows_without_a_complaint() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    done(&callvault(["man", pages.to_str().unwrap()]));
    let mut expected = BTreeSet::from(["callvault.1".to_owned()]);
    expected.extend(
        commands(&[])
            .iter()
            .map(|name| format!("callvault-{name}.1")),
    );
    expected.extend(
        commands(&["dead"])
            .iter()
            .map(|name| format!("callvault-dead-{name}.1")),
    );
    assert!(expected.len() > 12, "{expected:?}");
    let found: BTreeSet<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
    for page in &found {
        let shown = rendered(&pages.join(page));
        for part in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "--config"] {
            assert!(shown.contains(part), "no {part} in {page}:\n{shown}");
        }
    }
    assert!(rendered(&pages.join("callvault-check.1")).contains("Exits with 2"));

    let one = dir.path().join("one.1");
    fs::write(&one, done(&callvault(["man"]))).unwrap();
    let shown = rendered(&one)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        shown.contains("callvault-run(1)") && shown.contains("Exit codes: 0"),
        "{shown}"
    );
}

#[test]
fn pages_that_cannot_be_written_are_told_with_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = callvault(["man", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("cannot write the pages to"),
        "{}",
        text(&output.stderr)
    );
}

/// Runs a script in a shell, with the completions of that shell in `$1`.
fn in_shell(shell: &str, script: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let completions = dir.path().join("completions");
    fs::write(&completions, done(&callvault(["completions", shell]))).unwrap();
    let mut run = Command::new(shell);
    match shell {
        "bash" => run.args(["--norc", "--noprofile", "-c", script, "bash"]),
        // It has no $1 in a command, but $argv.
        _ => run.args(["--no-config", "-c", script]),
    };
    let run = run
        .arg(&completions)
        .env("HOME", dir.path())
        .env("XDG_CONFIG_HOME", dir.path());
    done(
        &run.stdin(Stdio::null())
            .output()
            .expect("a shell: tests/run installs it"),
    )
}

#[test]
fn bash_completes_commands_options_and_values() {
    for (words, expected) in [
        (&["callvault", "che"][..], "check"),
        (&["callvault", "dead", "l"], "list"),
        (&["callvault", "check", "--con"], "--connect --config"),
        (&["callvault", "dead", "replay", "--re"], "--reason"),
        (&["callvault", "--log-format", "j"], "json"),
        (&["callvault", "completions", "f"], "fish"),
    ] {
        let script = format!(
            "source \"$1\"; COMP_WORDS=({}); COMP_CWORD={}; _callvault callvault {:?} {:?}; echo \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        assert_eq!(in_shell("bash", &script).trim(), expected, "{words:?}");
    }
}

#[test]
fn fish_completes_commands_with_what_they_do() {
    let script = "source $argv[1]; complete --do-complete 'callvault dead l'";
    let told = in_shell("fish", script);
    assert!(told.starts_with("list\tCounts by reason"), "{told}");
}

#[test]
fn zsh_takes_its_completions_from_its_path() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("_callvault"),
        done(&callvault(["completions", "zsh"])),
    )
    .unwrap();
    let zsh = Command::new("zsh")
        .args(["-f", "-c"])
        .arg("fpath=($1 $fpath); autoload -Uz compinit && compinit -u -D && zsh -n $1/_callvault && print $_comps[callvault]")
        .arg("zsh")
        .arg(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("zsh: tests/run installs it");
    assert_eq!(done(&zsh).trim(), "_callvault");
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    for arguments in [&["man"][..], &["completions", "bash"]] {
        let mut callvault = command();
        let mut child = callvault
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}
