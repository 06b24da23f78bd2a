//! Problems that the file reader reports, including those of hostile texts.

// The lint does not recognize helper functions of tests.
#![allow(clippy::unwrap_used)]

use weir_snapshot::file::{self, MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_PROBLEMS};

/// All problems as `line:column path: message`.
fn problems(text: &str) -> Vec<String> {
    let problems = file::parse(text).unwrap_err();
    let number = |number: Option<u64>| number.unwrap_or_default();
    let tell = |problem: &weir_snapshot::Problem| {
        format!("{}:{} {}: {}", number(problem.line), number(problem.column), problem.path, problem.message)
    };
    problems.0.iter().map(tell).collect()
}

#[track_caller]
fn says(text: &str, wanted: &[&str]) {
    let found = problems(text);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "expected {wanted:?}, found {found:?}");
    }
}

#[test]
fn problems_of_every_kind_are_reported_together() {
    says(
        "\
pools:
  - name: books
    stratgy: random
    strategy: rnadom
    slow_start: soon
    slow_start: 5s
    health_check: { type: htp, interval: 5, rise: many, fall: 0 }
    breaker:
      error_rate: 2
      windw: 10s
    retry: { on: [reset, nothing, 503, 200], attempts: 0 }
    backends:
      - url: ftp://x
        weight: heavy
      - weight: 0
      - { url: \"http://b:1\", weight: 5, state: asleep, colour: red }
      - 7
  - strategy: random
routes:
  - name: r
    pool: boks
  - name: [r]
    pool: books
    limits: { max_body: 10 apples }
colour: blue
",
        &[
            "3:5 pools[0].stratgy: unknown key; did you mean strategy?",
            "4:15 pools[0].strategy: unknown variant `rnadom`",
            "5:17 pools[0].slow_start: \"soon\" is not a duration",
            "6:5 pools[0].slow_start: duplicate key \"slow_start\"",
            "7:27 pools[0].health_check.type: unknown variant `htp`",
            "7:42 pools[0].health_check.interval: \"5\" is not a duration",
            "7:51 pools[0].health_check.rise: invalid type",
            "9:19 pools[0].breaker.error_rate: 2 is not a share",
            "10:7 pools[0].breaker.windw: unknown key; did you mean window?",
            "11:26 pools[0].retry.on[1]: \"nothing\" is not a failure that can be retried",
            "11:40 pools[0].retry.on[3]: status 200 is not a failure that can be retried",
            "11:56 pools[0].retry.attempts: attempts 0 is out of bounds",
            "13:14 pools[0].backends[0].url: \"ftp://x\" has an unsupported scheme",
            "14:17 pools[0].backends[0].weight: invalid type",
            "15:9 pools[0].backends[1]: missing field `url`",
            "15:17 pools[0].backends[1].weight: weight 0 is out of bounds",
            "16:48 pools[0].backends[2].state: unknown variant `asleep`",
            "16:56 pools[0].backends[2].colour: unknown key",
            "17:9 pools[0].backends[3]: a backend must be a mapping",
            "18:5 pools[1]: missing field `name`",
            "22:11 routes[1].name: invalid type",
            "24:25 routes[1].limits.max_body: \"10 apples\" is not a size",
            "25:1 colour: unknown key",
        ],
    );
}

#[test]
fn an_unknown_pool_is_reported_beside_unreadable_values() {
    says(
        "pools:\n- name: books\n  colour: red\nroutes:\n- name: r\n  pool: boks\n",
        &[
            "3:3 pools[0].colour: unknown key",
            "6:9 routes[0].pool: route \"r\": unknown pool \"boks\"; did you mean \"books\"?",
        ],
    );
}

#[test]
fn problems_name_the_expected_keys_and_no_rust_types() {
    says(
        "pools:\n- name: p\nroutes:\n- name: r\n  pool: p\n  hsts: true\n  rate_limit: 20\n  match: x\n",
        &[
            "6:9 routes[0].hsts: invalid type: boolean `true`, expected a mapping of include_subdomains, max_age, preload",
            "7:15 routes[0].rate_limit: invalid type: integer `20`, expected a mapping of burst, key, new_values, per, requests, scope",
            "8:10 routes[0].match: invalid type: string \"x\", expected a mapping of ",
        ],
    );
}

#[test]
fn lists_are_not_accepted_as_mappings() {
    says(
        "pools:\n- name: p\n  limits: [5]\n  retry: { on: [reset], attempts: 1 }\nroutes:\n- name: r\n  pool: p\n  match: [[x.org], /p]\n  rate_limit: [5, 1m]\n  ip_filter: [[10.0.0.0/8]]\n- name: s\n  split: [[p, 5], { pool: p, weight: 1 }, [p, 3]]\n",
        &[
            "3:11 pools[0].limits: invalid type: sequence, expected a mapping of max_connections, max_pending",
            "8:10 routes[0].match: invalid type: sequence, expected a mapping of ",
            "9:15 routes[0].rate_limit: invalid type: sequence",
            "10:14 routes[0].ip_filter: invalid type: sequence",
            "12:11 routes[1].split[0]: invalid type: sequence",
            "12:43 routes[1].split[2]: invalid type: sequence",
        ],
    );
    says("settings: { downstream: [1s] }\n", &["1:25 settings.downstream: invalid type: sequence"]);
}

#[test]
fn expected_numbers_are_described_without_rust_types() {
    says(
        "pools:\n- name: p\nroutes:\n- name: r\n  redirect: { port: -1 }\n- name: s\n  split: [{ pool: p, weight: 1.5 }]\n",
        &[
            "5:21 routes[0].redirect.port: invalid value: integer `-1`, expected a whole number from 0 to 65535",
            "7:30 routes[1].split[0].weight: invalid type: floating point `1.5`, expected a whole number",
        ],
    );
}

#[test]
fn a_text_that_is_no_configuration_is_rejected() {
    says("- 1", &["1:1 : expected a mapping"]);
    says("pools: 5\n", &["1:8 pools: pools must be a list"]);
    says("pools: []\n---\npools: []\n", &["3:1 : a second document starts here"]);
    says("pools:\n- name: p\n  backends: 7\n", &["3:13 pools[0].backends: backends must be a list"]);
    says("settings: [1]\n", &["1:11 settings: settings must be a mapping"]);
    says(
        "settings: { downstream: { max_head: x, max_headers: -1, idle_timeout: 1 } }\n",
        &[
            "1:37 settings.downstream.max_head",
            "1:53 settings.downstream.max_headers",
            "1:71 settings.downstream.idle_timeout",
        ],
    );
    assert!(file::parse("{}").is_ok() && file::parse("pools:\nroutes:\nsettings:\n").is_ok());
    for empty in ["", "\n", "# a comment\n", "---\n", "null", "~"] {
        assert!(
            problems(empty)[0].contains("the configuration is empty"),
            "{empty:?}: {:?}",
            problems(empty)
        );
    }
}

#[test]
fn very_many_problems_are_reported_up_to_a_limit() {
    let mut text = String::from("pools:\n- name: p\n  backends:\n");
    (0..20_000).for_each(|i| text.push_str(&format!("  - {{ url: \"x{i}\", wieght: 1 }}\n")));
    let found = problems(&text);
    assert_eq!(found.len(), MAX_PROBLEMS + 1);
    assert!(found[MAX_PROBLEMS].ends_with("and 39000 more"), "{}", found[MAX_PROBLEMS]);
    let mut text = String::from("pools:\n- name: p\n  retry:\n    on:\n");
    (0..20_000).for_each(|_| text.push_str("    - nothing\n"));
    assert!(problems(&text).len() <= 101);
}

#[test]
fn texts_beyond_the_limits_are_rejected() {
    let large = "# weir\n".repeat((50 << 20) / 7);
    assert!(large.len() > MAX_BYTES);
    assert!(problems(&large)[0].contains("16 MiB at most"));

    let mut indented = String::new();
    (0..1000).for_each(|depth| indented.push_str(&format!("{}a:\n", " ".repeat(depth))));
    for deep in [
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("settings: {}1{}", "{a: ".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH)),
        indented,
    ] {
        assert!(
            problems(&deep)[0].ends_with("nested too deeply (at most 32 levels)"),
            "{:?}",
            problems(&deep)
        );
    }

    let many = format!("pools: [{}]", "1,".repeat(MAX_NODES));
    assert!(problems(&many)[0].ends_with("too many values (at most 500000)"), "{:?}", problems(&many));
}

#[test]
fn aliases_do_not_multiply() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for i in 1..20 {
        let before = format!("*a{}, ", i - 1);
        laughs.push_str(&format!("a{i}: &a{i} [{}]\n", before.repeat(10)));
    }
    assert!(problems(&laughs)[0].ends_with("aliases repeat too many values (at most 100000)"), "{laughs}");
    for text in ["a: &a [*a]\n", "a: &a {b: *a}\n"] {
        assert!(
            problems(text)[0].ends_with("an alias refers to a value that contains it"),
            "{text}: {:?}",
            problems(text)
        );
    }
    for text in ["&a a: *a\n", "a: *b\n", "<<: &a { <<: *a }\n"] {
        assert!(!problems(text).is_empty(), "{text}");
    }
    // Many uses of one anchor are how files stay short.
    let mut text = String::from(
        "pools:\n- { name: p0, health_check: &check { type: http, path: /health, interval: 5s } }\n",
    );
    (1..500).for_each(|i| text.push_str(&format!("- {{ name: p{i}, health_check: *check }}\n")));
    text.push_str("- name: merged\n  health_check:\n    <<: *check\n    interval: 7s\n");
    let (config, _) = file::parse(&text).unwrap();
    let merged = &config.pools[500].health_check;
    assert_eq!((merged.path.as_str(), merged.interval.to_string().as_str()), ("/health", "7s"));
}

#[test]
fn hostile_texts_are_rejected_with_a_line_and_without_a_panic() {
    for text in [
        "pools: [",
        "a: b: c",
        "pools:\n\t- name: x\n",
        "\u{0}",
        "pools:\n- name: \"a\u{0}b\"\n",
        "pools: &\n",
        "pools: *\n",
        "%YAML 9.9\n---\npools: []\n",
        "---\npools: []\n---\npools: []\n",
        "? [a, b]\n: c\n",
        "1: 2\n",
        "null: 1\n",
        "!!binary pools: x\n",
        "pools: !!set {a, b}\n",
        "pools: .inf\n",
        "pools:\n- name: .nan\n",
        "pools:\n- name: p\n  breaker: { error_rate: .nan }\n",
        "pools:\n- name: p\n  backends: [{ url: \"http://a:1\", weight: 99999999999999999999999999 }]\n",
        "pools:\n- name: p\n  backends: [{ url: \"http://a:1\", weight: 1e400 }]\n",
        "pools:\n- name: ''\n",
        "routes:\n- { name: r, pool: p }\n- { name: r, pool: p }\n",
        "{",
        "}",
        "\u{feff}pools: 1",
        "pools: |\n  text\n",
        "a.b[0]: 1\n",
        "'pools[0]': 1\n",
        "'': 1\n",
    ] {
        assert!(!problems(text).is_empty(), "{text:?}");
    }
    for bytes in [&b"pools:\n- name: \xff\n"[..], b"\xff\xfe", b"pools: []\n# \xc3"] {
        let problems = file::parse_bytes(bytes).unwrap_err();
        assert!(problems.to_string().contains("not UTF-8"), "{problems}");
    }
    assert!(file::parse_bytes(b"pools:\n- name: \xff\n").unwrap_err().to_string().starts_with("line 2"));
}

#[test]
fn json_as_written_by_programs_is_accepted() {
    let text = "{\n\t\"pools\": [\n\t\t{\"name\": \"p\", \"backends\": [{\"url\": \"http:\\/\\/a:1\"}]}\n\t],\n\t\"routes\": [{\"name\": \"r\", \"pool\": \"p\", \"fallback\": {\"status\": 503, \"body\": \"\\ud83d\\ude00 \\u00e9\\n\"}}]\n}";
    let (config, _) = file::parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.pools[0].backends[0].url, "http://a:1");
    assert_eq!(config.routes[0].fallback.as_ref().unwrap().body.as_deref(), Some("\u{1f600} é\n"));
}

/// Texts with very many problems, each text of another kind. Quadratic reading took minutes for 200,000 of them.
#[test]
fn reading_time_is_linear_in_the_number_of_problems() {
    let each = |n: usize, text: &dyn Fn(usize) -> String| (0..n).map(text).collect::<String>();
    let keys = |n: usize, space: &str| each(n, &|i| format!("{space}k{i}: 1\n"));
    let same = |n: usize, line: &str| line.repeat(n);
    let (long, n) = ("k".repeat(1 << 20), 20_000);
    let headers = each(n, &|i| format!("      \"a b{i}\": x\n"));
    let dots = ".".repeat(1 << 20);
    let texts = [
        ("unknown keys at the root", keys(200_000, "")),
        ("unknown keys of settings", format!("settings:\n{}", keys(n, "  "))),
        ("unknown keys of a pool", format!("pools:\n- name: a\n{}", keys(n, "  "))),
        ("unknown keys of a mapping", format!("pools:\n- name: a\n  breaker:\n{}", keys(n, "    "))),
        ("one key very often", same(n, "a: 1\n")),
        ("one key very often under a long one", format!("? {long}\n:\n{}", same(n, "  a: 1\n"))),
        ("pools that are not mappings", format!("pools:\n{}", same(n, "- 1\n"))),
        ("lists in a pool", format!("pools:\n- name: a\n  x:\n{}", same(n, "  - []\n"))),
        ("backends without URL", format!("pools:\n- name: a\n  backends:\n{}", same(n, "  - {}\n"))),
        ("header names", format!("routes:\n- name: a\n  pool: b\n  request_headers:\n    set:\n{headers}")),
        (
            "a key of dots",
            format!("routes:\n- name: a\n  pool: [b]\n  request_headers: {{ set: {{ \"{dots}\": x }} }}\n"),
        ),
    ];
    for (what, text) in texts {
        let begun = std::time::Instant::now();
        let problems = file::parse(&text).unwrap_err().0;
        eprintln!("{what}: {:?}", begun.elapsed());
        assert!(begun.elapsed().as_secs() < 60, "{what}: {:?}", begun.elapsed());
        assert!(!problems.is_empty() && problems.len() <= MAX_PROBLEMS + 1, "{what}");
        assert!(problems.iter().all(|one| one.path.len() < 2_000 && one.message.len() < 10_000), "{what}");
    }
}
