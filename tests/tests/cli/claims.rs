//! The page about claims names tests that exist.

use std::path::Path;

/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn every_claim_names_tests_that_are_there() {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/claims.md")).unwrap();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("::"));
    let mut count = 0;
    for row in rows {
        let named: Vec<&str> = row
            .split('`')
            .filter(|word| word.contains(".rs::"))
            .collect();
        assert!(!named.is_empty(), "no test is named in: {row}");
        for test in named {
            let (file, name) = test.split_once("::").unwrap();
            let text = std::fs::read_to_string(Path::new(ROOT).join(file));
            let text = text.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(
                text.contains(&format!("fn {name}(")),
                "{file} has no test {name}"
            );
        }
        count += 1;
    }
    assert!(count >= 12, "{count} claims");
}
