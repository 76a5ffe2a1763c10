//! `deploy/grafana`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    prometheus::Prometheus,
    tools::{document, python, said, text},
};

const DASHBOARD: &str = "grafana/callvault.json";

#[test]
fn the_dashboard_fits_grafanas_schema_and_lies_where_its_provider_looks() {
    let read = python(include_str!("dashboard.py"), &text(DASHBOARD));
    assert!(read.status.success(), "{}", said(&read));
    // Grafana takes its own word for what a panel's place is: none covers another.
    let mut taken = BTreeSet::new();
    for panel in panels() {
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
    }

    let source = document(&text("grafana/provisioning/datasources/prometheus.yaml"));
    assert_eq!(source["datasources"][0]["type"], "prometheus");
    let scraped = document(&text("prometheus/prometheus.yml"));
    assert_eq!(
        source["datasources"][0]["jsonData"]["timeInterval"],
        scraped["global"]["scrape_interval"]
    );
    let provider = document(&text("grafana/provisioning/dashboards/callvault.yaml"));
    let folder = provider["providers"][0]["options"]["path"]
        .as_str()
        .unwrap();
    let compose = document(&text("compose.yaml"));
    let mounts = compose["services"]["grafana"]["volumes"]
        .as_array()
        .unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount["target"].as_str().unwrap().starts_with(folder))
        .unwrap();
    assert_eq!(mount["source"], "./grafana/callvault.json");
}

/// Runs each panel's queries, as Grafana would, on a Prometheus that has scraped a worker and its broker.
pub(super) async fn every_panel_shows_something(prometheus: &Prometheus) {
    let mut queries = 0;
    for panel in panels() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"]
                .as_str()
                .unwrap()
                .replace("$__rate_interval", "10s")
                .replace("$queue", "callvault");
            assert!(!query.contains('$'), "a variable that nobody sets: {query}");
            let series = prometheus.query(&query).await;
            assert!(
                !series.is_empty(),
                "{}: {query} shows nothing",
                panel["title"]
            );
            let shown: BTreeSet<String> = series.iter().map(|one| legend(target, one)).collect();
            assert_eq!(
                shown.len(),
                series.len(),
                "{}: {query}: lines of one name",
                panel["title"]
            );
            queries += 1;
        }
    }
    assert!(queries > 20, "{queries} queries");
}

/// What a line is called: its legend, with the series' labels.
fn legend(target: &Value, series: &Value) -> String {
    let mut legend = target["legendFormat"].as_str().unwrap().to_owned();
    for (label, value) in series["metric"].as_object().unwrap() {
        legend = legend.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap());
    }
    assert!(
        !legend.contains("{{"),
        "{legend} names no label of {series}"
    );
    legend
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}
