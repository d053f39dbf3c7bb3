//! The content of a sweep's file, table and charts, from reports made by hand.

use serde_json::json;

use super::*;

fn report(micros: f64, problems: &[&str]) -> Value {
    json!({
        "problems": problems, "saturated": "neither", "window_seconds": 1.0,
        "published": {"per_second": 50.0},
        "deliveries": {"in_window": 1, "per_second": 7.0},
        "latency": {"count": 1, "p50_us": 100.0 * micros, "p99_us": 1000.0 * micros},
        "server": {"cpu_us_per_delivery": micros, "cpu": {"cpu_seconds": 0.5}},
    })
}

fn sweep() -> Sweep {
    let setup = json!({
        "scenario": "clients", "command": [], "load_cpus": "1", "run": "--size 128", "rounds": 3,
        "servers": [], "notes": [], "date_utc": "2026-01-02T03:04:05Z", "commit": "abc",
        "uncommitted_files": 0, "rustc": "", "wsload": "",
        "machine": {"host": "h", "cpu": "c", "cores": 2, "memory_bytes": 1, "kernel": "k"},
    });
    let measured = |value: &str, micros: [f64; 3]| Measured {
        point: points::parse(&[format!("{value}=--clients {value}")]).unwrap().remove(0),
        servers: vec![Runs {
            name: "wsbcast".to_owned(),
            runs: micros.iter().map(|micros| Run::of(&report(*micros, &[]))).collect(),
        }],
    };
    Sweep {
        setup: serde_json::from_value(setup).unwrap(),
        label: "clients".to_owned(),
        remark: "50,000 deliveries/s".to_owned(),
        is_linear: false,
        points: vec![measured("100", [4.0, 3.0, 5.0]), measured("10000", [6.0, 6.0, 6.0])],
    }
}

#[test]
fn the_table_has_a_line_per_point_and_server() {
    let mut sweep = sweep();
    let text = sweep.text();
    let line = "| 100 | wsbcast | 4.000 (3.000–5.000) | 10000 | 7 | 400 (300–500) |";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("| 10000 | wsbcast | 6.000 |"), "{text}");
    assert!(!text.contains("problems"), "{text}");
    sweep.points[0].servers[0].runs[1] = Run::of(&report(3.0, &["7 messages lost"]));
    assert!(sweep.text().contains("neither; 1 with problems"));
}

#[test]
fn the_file_holds_all_that_charts_need() {
    let before = charts::of(&sweep());
    let text = serde_json::to_string(&sweep()).unwrap();
    let after = charts::of(&serde_json::from_str(&text).unwrap());
    assert_eq!(before, after);
    let names: Vec<&str> = after.iter().map(|(ending, _)| ending.as_str()).collect();
    assert_eq!(names, ["cpu.svg", "latency.svg"]);
    assert!(after[0].1.contains("Server CPU per delivery, by clients"));
    assert!(after[1].1.contains("wsbcast p99"));
}

#[test]
fn a_sweep_without_latency_draws_none() {
    let mut sweep = sweep();
    for measured in &mut sweep.points {
        for run in &mut measured.servers[0].runs {
            run.figures.retain(|(label, _)| !label.starts_with('p'));
        }
    }
    let endings: Vec<String> = charts::of(&sweep).into_iter().map(|(ending, _)| ending).collect();
    assert_eq!(endings, ["cpu.svg"]);
}
