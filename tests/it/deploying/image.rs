//! `deploy/Dockerfile`, as its linter sees it; `confined` runs what it makes.

use super::tools::{deploy, program, ran};

#[test]
fn the_dockerfile_has_nothing_that_hadolint_would_mend() {
    let said = ran(program("hadolint")
        .arg("--no-color")
        .arg(deploy("Dockerfile")));
    assert_eq!(said, "", "hadolint is silent");
}
