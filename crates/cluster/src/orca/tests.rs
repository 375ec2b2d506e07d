use super::*;

fn report(name: &str, value: &str) -> Option<LoadReport> {
    let mut headers = HeaderMap::new();
    headers.append(&HeaderName::new(name).unwrap(), value.as_bytes());
    LoadReport::of(&headers)
}

fn weight(text: &str, options: &ClientSideWeights) -> Option<u32> {
    report("endpoint-load-metrics", text)?.weight(options)
}

#[test]
fn all_formats_say_the_same() {
    let expected = LoadReport {
        cpu_utilization: 0.5,
        rps_fractional: 100.0,
        named_metrics: vec![("q".into(), 0.25)],
        ..LoadReport::default()
    };
    let text = "TEXT cpu_utilization:0.5, rps_fractional:100, named_metrics.q:0.25";
    assert_eq!(report("endpoint-load-metrics", text).as_ref(), Some(&expected));
    let json = r#"{"cpu_utilization": 0.5, "rpsFractional": 100, "named_metrics": {"q": 0.25}}"#;
    assert_eq!(report("endpoint-load-metrics", &format!("JSON {json}")).as_ref(), Some(&expected));
    assert_eq!(report("endpoint-load-metrics-json", json).as_ref(), Some(&expected));
    let binary = "CQAAAAAAAOA/MQAAAAAAAFlAQgwKAXERAAAAAAAA0D8=";
    assert_eq!(report("endpoint-load-metrics-bin", binary).as_ref(), Some(&expected));
    assert_eq!(report("endpoint-load-metrics", &format!("BIN {binary}")).as_ref(), Some(&expected));
    assert_eq!(report("endpoint-load-metrics-bin", binary.trim_end_matches('=')).as_ref(), Some(&expected));
}

#[test]
fn what_makes_no_sense_is_no_report() {
    for text in
        ["", "cpu_utilization:1", "TEXT cpu_utilization", "TEXT eps:1, eps:2", "TEXT eps:nan", "JSON []", "TEXT x:1"]
    {
        assert_eq!(report("endpoint-load-metrics", text), None, "{text}");
    }
    for text in ["????", "CQ==", "//////8="] {
        assert_eq!(report("endpoint-load-metrics-bin", text), None, "{text}");
    }
}

#[test]
fn weights_are_rates_by_utilisation() {
    let plain = ClientSideWeights { error_utilization_penalty: 1.0, ..ClientSideWeights::default() };
    assert_eq!(weight("TEXT rps_fractional:100, cpu_utilization:0.5", &plain), Some(200));
    assert_eq!(weight("TEXT rps_fractional:100, cpu_utilization:0.5, application_utilization:0.8", &plain), Some(125));
    assert_eq!(weight("TEXT rps_fractional:100, cpu_utilization:0.5, eps:50", &plain), Some(100));
    assert_eq!(weight("TEXT cpu_utilization:0.5", &plain), None);
    assert_eq!(weight("TEXT rps_fractional:100", &plain), None);
    let named = ClientSideWeights { metric_names: vec!["named_metrics.q".into()], ..plain };
    assert_eq!(weight("TEXT rps_fractional:100, application_utilization:0.8, named_metrics.q:0.4", &named), Some(250));
}
