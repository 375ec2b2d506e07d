use super::*;

fn show(extracted: &Extracted<'_>) -> String {
    let tags: Vec<String> = extracted.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {}", extracted.name, tags.join(","))
}

fn check_with(options: &StatsOptions, name: &str, expected: &str) {
    let producer = TagProducer::new(options).unwrap();
    assert_eq!(show(&producer.produce(name)).trim_end(), expected, "{name}");
}

/// What Envoy 1.40 was seen to make of these names.
#[test]
fn default_tags() {
    let check = |name: &str, expected: &str| check_with(&StatsOptions::default(), name, expected);
    check("cluster.adm.upstream_rq_total", "cluster.upstream_rq_total envoy.cluster_name=adm");
    check("cluster.a.b-c_80.upstream_cx_total", "cluster.b-c_80.upstream_cx_total envoy.cluster_name=a");
    check(
        "cluster.adm.external.upstream_rq_200",
        "cluster.external.upstream_rq envoy.response_code=200,envoy.cluster_name=adm",
    );
    check("cluster.adm.upstream_rq_5xx", "cluster.upstream_rq_xx envoy.response_code_class=5,envoy.cluster_name=adm");
    check(
        "cluster.tls.ssl.ciphers.ECDHE-RSA-AES128-GCM-SHA256",
        "cluster.ssl.ciphers cipher_suite=ECDHE-RSA-AES128-GCM-SHA256,envoy.cluster_name=tls",
    );
    check("cluster.tls.ssl.curves.X25519", "cluster.ssl.curves envoy.ssl_curve=X25519,envoy.cluster_name=tls");
    check("cluster.tls.ssl.versions.TLSv1.2", "cluster.ssl.versions envoy.ssl_version=TLSv1.2,envoy.cluster_name=tls");
    check(
        "listener.127.0.0.1_39912.worker_0.downstream_cx_total",
        "listener.worker_downstream_cx_total envoy.worker_id=0,envoy.listener_address=127.0.0.1_39912",
    );
    check("server.worker_0.watchdog_miss", "server.worker_watchdog_miss envoy.worker_id=0");
    check("server.main_thread.watchdog_miss", "server.main_thread.watchdog_miss");
    check("listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total");
    check(
        "listener.admin.http.admin.downstream_rq_2xx",
        "listener.admin.http.downstream_rq_xx \
         envoy.response_code_class=2,envoy.http_conn_manager_prefix=admin",
    );
    check(
        "listener.[__1]_80.http.ing.downstream_rq_completed",
        "listener.http.downstream_rq_completed \
         envoy.http_conn_manager_prefix=ing,envoy.listener_address=[__1]_80",
    );
    check(
        "listener.my_listener.downstream_cx_total",
        "listener.downstream_cx_total envoy.listener_address=my_listener",
    );
    check(
        "listener.127.0.0.1_80.ssl.certificate.cert0.expiration_unix_time_seconds",
        "listener.ssl.certificate.expiration_unix_time_seconds \
         envoy.tls_certificate=cert0,envoy.listener_address=127.0.0.1_80",
    );
    check(
        "http.tls.rds.my.route.update_success",
        "http.rds.update_success \
         envoy.rds_route_config=my.route,envoy.http_conn_manager_prefix=tls",
    );
    check(
        "http.ing.rbac.policy.p1.allowed",
        "http.rbac.policy.allowed envoy.rbac_policy_name=p1,envoy.http_conn_manager_prefix=ing",
    );
    check("http.ing.rbac.allowed", "http.rbac.allowed envoy.http_conn_manager_prefix=ing");
    check("nr.rbac.allowed", "rbac.allowed envoy.rbac_prefix=nr");
    check("tcp.tcpx.downstream_cx_total", "tcp.downstream_cx_total envoy.tcp_prefix=tcpx");
    check("hlrl.http_local_rate_limit.ok", "http_local_rate_limit.ok envoy.local_http_ratelimit_prefix=hlrl");
    check(
        "local_rate_limit.nlr.rate_limited",
        "local_rate_limit.rate_limited envoy.local_network_ratelimit_prefix=nlr",
    );
    check("proxy_proto.versions.v1.found", "proxy_proto.found envoy.proxy_protocol_version=1");
    check("proxy_proto.not_found_allowed", "proxy_proto.not_found_allowed");
    check("http.ing.fault.aborts_injected", "http.fault.aborts_injected envoy.http_conn_manager_prefix=ing");
    check(
        "vhost.v.vcluster.vc1.upstream_rq_503",
        "vhost.vcluster.upstream_rq \
         envoy.response_code=503,envoy.virtual_cluster=vc1,envoy.virtual_host=v",
    );
    check("vhost.v.route.rsp.upstream_rq_total", "vhost.route.upstream_rq_total envoy.virtual_host=v,envoy.route=rsp");
}

/// The rules of Istio's bootstrap, beside fixed values, as Envoy 1.40 was seen to apply them.
#[test]
fn configured_tags() {
    let regex = |tag_name: &str, regex: &str| TagSpecifier {
        tag_name: tag_name.to_owned(),
        rule: TagRule::Regex(regex.to_owned()),
    };
    let options = StatsOptions {
        use_all_default_tags: false,
        cli_tags: vec![("clitag".to_owned(), "foo".to_owned())],
        stats_tags: vec![
            regex("cluster_name", r"^cluster(\.(.+);)"),
            regex("http_conn_manager_prefix", r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)"),
            regex("response_code_class", r"_rq(_(\dxx))$"),
            regex(
                "http_conn_manager_listener_prefix",
                r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
            ),
            regex("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
            TagSpecifier { tag_name: "fixedtag".to_owned(), rule: TagRule::Fixed("v1".to_owned()) },
            regex("cluster_name", r"^cluster\.((.*?)\.)"),
            TagSpecifier { tag_name: "envoy.worker_id".to_owned(), rule: TagRule::Default },
        ],
        ..StatsOptions::default()
    };
    let check = |name: &str, expected: &str| check_with(&options, name, expected);
    check(
        "cluster.outbound|80||a.b.svc.cluster.local;.external.upstream_rq_4xx",
        "cluster.external.upstream_rq \
         clitag=foo,cluster_name=outbound|80||a.b.svc.cluster.local,response_code_class=4xx,fixedtag=v1",
    );
    check("cluster.plain.upstream_cx_total", "cluster.upstream_cx_total clitag=foo,fixedtag=v1,cluster_name=plain");
    check(
        "http.outbound_0.0.0.0_9080;.no_route",
        "http.no_route clitag=foo,fixedtag=v1,http_conn_manager_prefix=outbound_0.0.0.0_9080",
    );
    check(
        "listener.[__1]_39934.worker_1.downstream_cx_active",
        "listener.worker_downstream_cx_active \
         clitag=foo,fixedtag=v1,envoy.worker_id=1,listener_address=[__1]_39934",
    );
    check(
        "listener.0.0.0.0_80.http.0.0.0.0_80.downstream_rq_2xx",
        "listener.http.downstream_rq clitag=foo,response_code_class=2xx,fixedtag=v1,\
         http_conn_manager_listener_prefix=0.0.0.0_80,listener_address=0.0.0.0_80",
    );
}

#[test]
fn rules_that_cannot_be_used() {
    let check = |rule: TagRule, expected: &str| {
        let options = StatsOptions {
            stats_tags: vec![TagSpecifier { tag_name: "t".to_owned(), rule }],
            ..StatsOptions::default()
        };
        let error = TagProducer::new(&options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(TagRule::Default, "no default tag of this name");
    check(TagRule::Regex("((".to_owned()), "is not valid");
    check(TagRule::Regex("cluster".to_owned()), "no capture group");
}

#[test]
fn wildcard_segments() {
    let check = |pattern: &'static str, name: &str, expected: Option<(&str, &str)>| {
        let found = pattern::Segments::new(pattern).find(name, &pattern::segments_of(name));
        let found = found.map(|found| {
            let rest = without(name, &mut [found.cut]);
            (name[found.value].to_owned(), rest)
        });
        let expected = expected.map(|(value, rest)| (value.to_owned(), rest.to_owned()));
        assert_eq!(found, expected, "{pattern} {name}");
    };
    check("a.$.**", "a.b.c.d", Some(("b", "a.c.d")));
    check("a.$.**", "a.b", None);
    check("a.$.**", "x.b.c", None);
    check("a.*.$", "a.b.c", Some(("c", "a.b")));
    check("a.*.$", "a.b.c.d", None);
    check("m.$.**.query.*", "m.c.query.x", Some(("c", "m.query.x")));
    check("m.$.**.query.*", "m.c.d.e.query.x", Some(("c", "m.d.e.query.x")));
    check("m.$.**.query.*", "m.c.d.e.x", None);
    check("$.r.**", "p.r.x", Some(("p", "r.x")));
}
