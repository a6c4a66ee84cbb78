//! `tally program`.

use serde_json::Value;

use crate::net;

#[test]
fn program_list_names_the_programs_that_come_with_tally() {
    let net = net();
    let listed: Value = net.run(&["program", "list", "--json"]).done().json();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|program| program["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["gaussian-blur", "wordcount", "prime-count"]);
    let text = net.run(&["program", "list"]).done();
    assert!(text.text().starts_with("program"), "{}", text.text());
    assert_eq!(text.text().lines().count(), 4);
}

#[test]
fn program_check_says_what_a_program_is() {
    let net = net();
    let checked: Value = net
        .run(&["program", "check", "wordcount", "--json"])
        .done()
        .json();
    assert_eq!(checked["program"].as_str().unwrap().len(), 64);
    assert!(checked["bytes"].as_u64().unwrap() > 100);
    assert!(checked["abi"].is_string() && checked["profile"].is_string());
    let text = net.run(&["program", "check", "wordcount"]).done();
    assert!(text.text().contains("is a program that terminals run"));
    let failure = net
        .run(&["program", "check", "nothing.wasm", "--json"])
        .failure();
    assert_eq!((failure.exit, failure.code.as_str()), (3, "not_found"));
    assert!(failure.hint.contains("tally program list"), "{failure:?}");
}

#[test]
fn program_run_writes_the_output_alone_to_standard_output() {
    let net = net();
    let input = net.write("input.txt", "some words here");
    let run = [
        "program",
        "run",
        "wordcount",
        "--input",
        input.to_str().unwrap(),
    ];
    let ran = net.run(&run).done();
    assert_eq!(ran.stdout, b"3\n");
    assert!(
        ran.stderr.contains("done: ") && ran.stderr.contains(" fuel, 2 bytes, "),
        "{}",
        ran.stderr
    );
    // The same fuel on every run, and as JSON.
    let fuel = |_| {
        let ran = net.run(&[&run[..], &["--json"]].concat()).done();
        assert_eq!(ran.stdout, b"3\n");
        let told: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&told["outcome"], &told["done"]),
            (&Value::from("done"), &Value::from(true))
        );
        assert_eq!(told["output_bytes"], 2);
        told["fuel"].as_u64().unwrap()
    };
    let fuels = [0, 1].map(fuel);
    assert!(fuels[0] > 0 && fuels[0] == fuels[1], "{fuels:?}");
}

#[test]
fn program_run_passes_arguments_and_unit_and_tells_how_a_unit_failed() {
    let net = net();
    let primes = |unit: &str| {
        let range = ["--unit", unit, "--units", "2", "--", "0", "100"];
        let ran = net
            .run(&[&["program", "run", "prime-count"], &range[..]].concat())
            .done();
        ran.text().trim().parse::<u32>().unwrap()
    };
    assert_eq!((primes("0"), primes("1")), (15, 10));
    let ran = net.run(&["program", "run", "prime-count", "--json", "--", "nonsense"]);
    let failure = ran.failure();
    assert_eq!((failure.exit, failure.code.as_str()), (6, "unsuccessful"));
    assert!(failure.message.contains("exit code 2"), "{failure:?}");
    assert!(ran.stderr.contains("usage: prime-count"), "{}", ran.stderr);
    let starved = [
        "program",
        "run",
        "prime-count",
        "--json",
        "--fuel",
        "1000000",
        "--",
        "0",
        "1000000000",
    ];
    let failure = net.run(&starved).failure();
    assert_eq!(failure.exit, 6);
    assert!(failure.message.contains("out of fuel"), "{failure:?}");
    let failure = net
        .run(&[
            "program",
            "run",
            "wordcount",
            "--json",
            "--input",
            "nowhere",
        ])
        .failure();
    assert_eq!(failure.exit, 3);
}
