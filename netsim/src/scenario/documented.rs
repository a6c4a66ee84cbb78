//! What docs/netsim.md says of scenarios and of the overlay is what the program does.

use std::collections::BTreeSet;

use super::Scenario;
use crate::overlay::figures;

const PAGE: &str = include_str!("../../../docs/netsim.md");

/// Returns the keys of a table that the parser takes: those that it names when it is given another.
fn taken(table: &str) -> BTreeSet<String> {
    let text = match table {
        "" => "zzz = 0".to_owned(),
        "lines" => "[lines.x]\nzzz = 0".to_owned(),
        table => format!("[[{table}]]\nzzz = 0"),
    };
    let error = Scenario::parse("x", &text).unwrap_err().to_string();
    let (_, expected) = error.split_once("expected one of").unwrap();
    let quoted = expected.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Returns the keys of a table that the page has a row for.
fn documented(table: &str) -> BTreeSet<String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split('`').next());
    let key = |name: &str| {
        if table.is_empty() {
            let head = name.trim_matches(['[', ']']);
            let is_key = name.starts_with('[') || !head.contains(['.', ' ', '-']);
            return is_key.then(|| head.trim_end_matches(".NAME").to_owned());
        }
        Some(name.strip_prefix(table)?.strip_prefix('.')?.to_owned())
    };
    names.filter_map(key).collect()
}

#[test]
fn the_page_names_every_key_of_a_scenario_and_no_other() {
    for table in [
        "",
        "lines",
        "coordinators",
        "terminals",
        "tasks",
        "cuts",
        "orders",
        "app_servers",
        "owners",
    ] {
        assert_eq!(documented(table), taken(table), "{table:?}");
    }
}

#[test]
fn the_page_has_the_figures_of_the_overlay() {
    for (name, value, source) in figures::table() {
        let row = format!("| {name} | {value} | `{source}` |");
        assert!(
            PAGE.lines().any(|line| line == row),
            "docs/netsim.md needs {row}"
        );
    }
}
