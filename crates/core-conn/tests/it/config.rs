//! A configuration is right, or an error that says what is expected, before any I/O.

use std::{num::NonZeroUsize, time::Duration};

use redbrick_core_conn::{
    Config, ConfigBuilder, Credentials, ErrorKind, RotatingCredentials, SentinelConfig,
};

fn vars(vars: &[(&str, &str)]) -> Result<Config, redbrick_core_conn::Error> {
    Config::from_vars(vars.iter().copied())
}

/// What a config is, without the secrets that `Debug` hides.
fn shown(config: &Config) -> String {
    format!("{config:?}")
}

#[test]
fn every_url_form_is_read() {
    for (url, endpoint) in [
        ("redis://", "Tcp(Node { host: \"localhost\", port: 6379 })"),
        ("redis://cache", "Tcp(Node { host: \"cache\", port: 6379 })"),
        ("valkey://10.0.0.7:7000/3", "Tcp(Node { host: \"10.0.0.7\", port: 7000 })"),
        ("redis://[::1]:7000", "Tcp(Node { host: \"::1\", port: 7000 })"),
        ("unix:///run/redis.sock", "Unix(\"/run/redis.sock\")"),
        ("redis+unix:///run/redis.sock?db=2", "Unix(\"/run/redis.sock\")"),
        ("valkey+unix:///run/a%20b.sock", "Unix(\"/run/a b.sock\")"),
        (
            "redis-cluster://a:1?node=b:2&node=[::1]:3",
            "Cluster([Node { host: \"a\", port: 1 }, Node { host: \"b\", port: 2 }, Node { host: \"::1\", port: 3 }])",
        ),
        ("valkey-cluster://a", "Cluster([Node { host: \"a\", port: 6379 }])"),
        (
            "redis-sentinel://s1/1?service=main&node=s2:5000&sentinelUsername=u&sentinelPassword=p",
            "Sentinel(Sentinels { nodes: [Node { host: \"s1\", port: 26379 }, Node { host: \"s2\", port: 5000 }], \
             service: \"main\", username: Some(\"u\"), password: Some(***) })",
        ),
        (
            "valkey-sentinel://s1?sentinelServiceName=main",
            "Sentinel(Sentinels { nodes: [Node { host: \"s1\", port: 26379 }], service: \"main\", username: None, password: None })",
        ),
    ] {
        let config = Config::from_url(url).unwrap_or_else(|err| panic!("{url}: {err}"));
        assert!(shown(&config).contains(&format!("endpoint: {endpoint},")), "{url}: {config:?}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn an_s_in_the_scheme_means_tls() {
    for url in
        ["rediss://a", "valkeys://a", "rediss-cluster://a", "valkeys-sentinel://a?service=main"]
    {
        assert!(shown(&Config::from_url(url).unwrap()).contains("tls: Some("), "{url}");
    }
    assert!(shown(&Config::from_url("redis://a").unwrap()).contains("tls: None"));
}

#[test]
fn credentials_are_percent_decoded_and_never_shown() {
    let config = Config::from_url("redis://us%65r:hunt%40r%2F2%23@cache/2").unwrap();
    let shown = shown(&config);
    assert!(shown.contains("username: Some(\"user\")") && shown.contains("database: 2"), "{shown}");
    assert!(!shown.contains("hunt"), "{shown}");
}

#[test]
fn a_wrong_url_is_refused_without_showing_it() {
    for (url, says) in [
        ("localhost:6379", "something like `redis://localhost:6379/0`"),
        ("http://hunter2@cache", "unknown scheme"),
        ("redis+sentinel://hunter2@a", "unknown scheme"),
        ("redis-other://a", "unknown scheme"),
        ("not a url hunter2", "not a URL"),
        ("redis://hunter2@cache", "needs a password"),
        ("redis://:hunter2@cache/x", "database number"),
        ("redis://:hunter2@cache/256", "database number"),
        ("redis://:hunter2@cache:0", "port from 1"),
        ("redis://:hunter2@cache:70000", "port from 1"),
        ("redis-sentinel://:hunter2@a?service=x&service=y", "given twice"),
        ("redis://:hunter2@cache?db=1", "written `/2`"),
        ("redis://:hunter2@cache?timeout=5", "unknown parameter"),
        ("redis://:hunter2@ca che", "host"),
        ("redis://:hunter2#x@cache", ""),
        ("redis-cluster://:hunter2@a?node=b:x", "`host:port`"),
        ("redis-cluster://:hunter2@a:7000,b:7000", "further nodes are written `?node=host:port`"),
        ("redis-cluster://:hunter2@a/1", "only database 0"),
        ("redis-sentinel://:hunter2@a", "service's name"),
        ("unix://hunter2/run/redis.sock", "three slashes"),
        ("unix://", "path"),
        ("redis://:%ff@cache", "not UTF-8"),
    ] {
        let err = Config::from_url(url).expect_err(url);
        assert_eq!(err.kind(), ErrorKind::Config, "{url}");
        let chain = format!("{err} {err:?}");
        assert!(chain.contains(says), "{url}: {chain}");
        assert!(!chain.contains("hunter2"), "{url}: {chain}");
    }
}

#[test]
fn the_environment_is_read_with_the_documented_names() {
    let config = vars(&[
        ("REDIS_HOST", "cache"),
        ("REDIS_PORT", "7000"),
        ("REDIS_USERNAME", "app"),
        ("REDIS_PASSWORD", "hunter2"),
        ("REDIS_DB", "3"),
        ("REDIS_KEY_PREFIX", "myapp"),
        ("REDIS_TLS", "false"),
        ("REDIS_MAX_MEMORY", "256mb"),
        ("REDIS_UNRELATED", "x"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    let shown = shown(&config);
    for part in [
        "host: \"cache\", port: 7000",
        "username: Some(\"app\")",
        "password: Some(***)",
        "database: 3",
        "key_prefix: \"myapp:\"",
        "memory_threshold: Some(268435456)",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

/// As in a pod beside a service named `redis`.
#[test]
fn what_kubernetes_sets_beside_a_service_named_redis_is_left_aside() {
    let config = vars(&[
        ("REDIS_URL", "redis://cache:7000"),
        ("REDIS_PORT", "tcp://10.0.0.1:6379"),
        ("REDIS_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("REDIS_SERVICE_HOST", "10.0.0.1"),
    ]);
    let shown = shown(&config.unwrap());
    assert!(shown.contains("host: \"cache\", port: 7000"), "{shown}");
}

#[test]
fn what_has_no_variable_is_set_behind_the_environment() {
    // The test's own environment names no server.
    let config = ConfigBuilder::from_env().unwrap().command_timeout(Duration::from_millis(7));
    let shown = shown(&config.build().unwrap());
    assert!(shown.contains("command_timeout: 7ms"), "{shown}");
}

#[test]
fn what_neither_url_nor_parts_say_has_its_default() {
    let shown = shown(&vars(&[("REDIS_URL", ""), ("REDIS_PASSWORD", "")]).unwrap());
    for part in [
        "Tcp(Node { host: \"localhost\", port: 6379 })",
        "username: None, password: None",
        "database: 0",
        "key_prefix: \"\"",
        "client_name: None",
        "codec: MessagePack",
        "command_links: 1",
        "connect_timeout: 10s",
        "command_timeout: 5s",
        "retries: 3",
        "reconnect_delay: (50ms, 2s)",
        "retry_auth_errors: false",
        "ready_check: true",
        "lazy: false",
        "max_waiting: 10000",
        "memory_threshold: None",
        "slow_threshold: 1s",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn the_threshold_of_slow_operations_may_be_anything() {
    for threshold in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let config = Config::builder().slow_threshold(threshold).build().unwrap();
        assert!(shown(&config).contains(&format!("slow_threshold: {threshold:?}")), "{config:?}");
    }
    for (text, threshold) in [("0s", "0ns"), ("250ms", "250ms")] {
        let text = format!(r#"{{"slow_threshold": "{text}"}}"#);
        let config: Config = serde_json::from_str(&text).unwrap();
        assert!(shown(&config).contains(&format!("slow_threshold: {threshold}")), "{config:?}");
    }
}

#[test]
fn parts_fill_in_what_the_url_leaves_open_and_may_repeat_it() {
    let config = vars(&[
        ("REDIS_URL", "redis://cache"),
        ("REDIS_HOST", "cache"),
        ("REDIS_PORT", "7000"),
        ("REDIS_DB", "2"),
    ]);
    let shown = shown(&config.unwrap());
    assert!(
        shown.contains("host: \"cache\", port: 7000") && shown.contains("database: 2"),
        "{shown}"
    );
}

#[test]
fn a_contradiction_names_both_sides_and_no_value() {
    for (name, value) in [
        ("REDIS_HOST", "other"),
        ("REDIS_PORT", "7001"),
        ("REDIS_DB", "4"),
        ("REDIS_USERNAME", "hunter3"),
        ("REDIS_PASSWORD", "hunter3"),
    ] {
        let err =
            vars(&[("REDIS_URL", "redis://user:hunter2@cache:7000/3"), (name, value)]).unwrap_err();
        let text = format!("{err} {err:?}");
        assert!(text.starts_with(&format!("{name}: REDIS_URL says something else")), "{text}");
        assert!(!text.contains("hunter"), "{text}");
    }
    let err = vars(&[("REDIS_URL", "redis-cluster://a:1"), ("REDIS_HOST", "a")]).unwrap_err();
    assert!(err.to_string().starts_with("REDIS_HOST: REDIS_URL says where the server is"), "{err}");
}

#[test]
fn a_wrong_variable_is_named_with_what_is_expected() {
    for (name, value, says) in [
        ("REDIS_URL", "nope", "not a URL"),
        ("REDIS_HOST", "host:6379", "without a port"),
        ("REDIS_PORT", "hunter2", "a port from 1 to 65535"),
        ("REDIS_PORT", "0", "a port from 1 to 65535"),
        ("REDIS_PORT", "65536", "a port from 1 to 65535"),
        ("REDIS_DB", "-1", "a database number from 0 to 255"),
        ("REDIS_TLS", "hunter2", "`true` or `false`"),
        ("REDIS_MAX_MEMORY", "lots", "a number of bytes"),
        ("REDIS_USERNAME", "app", "needs a password"),
        ("REDIS_KEY_PREFIX", "a{b}", "braces"),
    ] {
        let err = vars(&[(name, value)]).expect_err(name);
        assert_eq!(err.kind(), ErrorKind::Config);
        let text = err.to_string();
        assert!(text.starts_with(name) && text.contains(says), "{name}={value}: {text}");
        assert!(!format!("{err:?}").contains("hunter2"), "{err:?}");
    }
}

#[test]
fn a_prefix_means_the_same_with_and_without_its_colon() {
    for prefix in ["myapp", "myapp:", "myapp::"] {
        let config = Config::builder().key_prefix(prefix).build().unwrap();
        assert!(shown(&config).contains("key_prefix: \"myapp:\""), "{prefix}");
    }
}

#[test]
fn the_builder_refuses_what_cannot_work_and_names_the_field() {
    let provider = || RotatingCredentials::new(Credentials::password("x"));
    let cases: [(ConfigBuilder, &str); 22] = [
        (Config::builder().port(0), "port: expected"),
        (Config::builder().host(""), "host: expected"),
        (Config::builder().host("a b"), "host: expected"),
        (
            Config::builder().connect_timeout(Duration::ZERO),
            "connect_timeout: expected more than zero and at most a day",
        ),
        (
            Config::builder().command_timeout(Duration::ZERO),
            "command_timeout: expected more than zero",
        ),
        (
            Config::builder().reconnect_delay(Duration::from_secs(2), Duration::from_secs(1)),
            "reconnect_delay_min: expected no more",
        ),
        (Config::builder().client_name("two words"), "client_name: expected"),
        (Config::builder().unix_socket("/a").host("b"), "host: unix_socket says where"),
        (
            Config::builder().unix_socket("/a").url("redis://b"),
            "give only one of: url, unix_socket",
        ),
        (Config::builder().cluster(["a:1"]).database(1), "database: a cluster has only database 0"),
        (Config::builder().cluster(["a:x"]), "cluster: expected `host:port`"),
        (Config::builder().cluster([""; 0]), "cluster: expected at least one node"),
        (Config::builder().unix_socket(""), "unix_socket: expected a path"),
        (Config::builder().max_waiting(NonZeroUsize::MAX), "max_waiting: expected at most 1000000"),
        (
            Config::builder().blocking_links(NonZeroUsize::MAX),
            "blocking_links: expected at most 1000",
        ),
        (
            Config::builder().probe_interval(Duration::from_millis(99)),
            "probe_interval: expected at least 100 milliseconds",
        ),
        (
            Config::builder().command_links(NonZeroUsize::MAX),
            "command_links: expected at most 1000",
        ),
        (
            Config::builder().reconnect_delay(Duration::from_micros(10), Duration::from_secs(1)),
            "reconnect_delay_min: expected at least a millisecond",
        ),
        (
            Config::builder().sentinel(SentinelConfig::new("main", ["s"]).username("u")),
            "sentinel: a user name at the sentinels needs a password",
        ),
        (
            Config::builder().sentinel(SentinelConfig::new("", ["a"])),
            "sentinel: expected the service's name",
        ),
        (Config::builder().username("app"), "username: a user name needs a password"),
        (Config::builder().password("x").credential_provider(provider()), "password: give either"),
    ];
    for (builder, says) in cases {
        let err = builder.build().expect_err(says);
        assert_eq!(err.kind(), ErrorKind::Config);
        assert!(err.to_string().starts_with(says), "{err} should say {says}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn tls_settings_must_agree_with_the_scheme_and_hold_what_they_claim() {
    use redbrick_core_conn::Tls;

    let config = Config::builder().url("redis://a").tls_with(Tls::new()).build();
    assert!(config.unwrap_err().to_string().starts_with("tls: url says something else"));
    let config = Config::builder().unix_socket("/a").tls(true).build();
    assert!(config.unwrap_err().to_string().starts_with("tls: a Unix socket has no TLS"));
    for err in [
        Tls::new().ca_pem("no certificate").unwrap_err(),
        Tls::new().ca_file("/does/not/exist.pem").unwrap_err(),
        Tls::new().client_pem("x", "y").unwrap_err(),
        Tls::new().server_name("not a name").unwrap_err(),
    ] {
        assert_eq!(err.kind(), ErrorKind::Config, "{err}");
    }
}

#[test]
fn a_configuration_file_has_the_builders_field_names() {
    let config: Config = serde_json::from_str(
        r#"{
            "host": "cache", "port": 7000, "database": 1, "password": "hunter2", "key_prefix": "myapp",
            "client_name": "orders", "codec": "json", "command_links": 2,
            "connect_timeout": "3s", "command_timeout": "250ms", "retries": 1,
            "reconnect_delay_min": "10ms", "reconnect_delay_max": "1s",
            "retry_auth_errors": true, "ready_check": false, "lazy": true,
            "max_waiting": 100, "memory_threshold": 1048576
        }"#,
    )
    .unwrap();
    let shown = shown(&config);
    for part in [
        "codec: Json",
        "command_links: 2",
        "connect_timeout: 3s",
        "command_timeout: 250ms",
        "retries: 1",
        "reconnect_delay: (10ms, 1s)",
        "retry_auth_errors: true",
        "ready_check: false",
        "lazy: true",
        "max_waiting: 100",
        "memory_threshold: Some(1048576)",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    let sentinel =
        r#"{"sentinel": {"service": "main", "nodes": ["s1", "s2:5000"], "password": "hunter2"}}"#;
    assert!(serde_json::from_str::<Config>(sentinel).is_ok());
    for (text, says) in [
        (r#"{"hots": "cache"}"#, "hots"),
        (r#"{"port": 0}"#, "port: expected"),
        (r#"{"connect_timeout": 5}"#, "expected"),
    ] {
        let err = serde_json::from_str::<Config>(text).unwrap_err().to_string();
        assert!(err.contains(says), "{text}: {err}");
    }
}

#[test]
fn a_configuration_file_can_be_a_url_and_sizes_can_have_units() {
    let config: Config = serde_json::from_str(r#""redis://:hunter2@cache:7000/2""#).unwrap();
    assert!(shown(&config).contains("port: 7000") && shown(&config).contains("database: 2"));
    let config: Config = serde_json::from_str(r#"{"memory_threshold": "256mb"}"#).unwrap();
    assert!(shown(&config).contains("memory_threshold: Some(268435456)"));
    let sentinel: Config = serde_json::from_str(
        r#"{"sentinel": {"service": "main", "nodes": ["s1"], "username": "u", "password": "hunter2"}}"#,
    )
    .unwrap();
    assert!(shown(&sentinel).contains("username: Some(\"u\"), password: Some(***)"));
}

#[test]
fn a_wrong_configuration_file_is_refused_without_showing_its_secrets() {
    for (text, says) in [
        (r#"{"password": 71326548}"#, "put it in quotes"),
        (r#"{"url": 71326548}"#, "put it in quotes"),
        (r#"{"password": true}"#, "put it in quotes"),
        (
            r#"{"sentinel": {"service": "m", "nodes": [], "password": 71326548}}"#,
            "put it in quotes",
        ),
        (r#"{"sentinel": "redis://:71326548@s"}"#, "a setting has the wrong type, expected"),
        (r#"{"port": "redis://:71326548@s"}"#, "a setting has the wrong type, expected u16"),
        (r#"{"cluster": "redis://:71326548@s"}"#, "a setting has the wrong type, expected"),
        (r#"{"memory_threshold": "71326548tb"}"#, "memory_threshold: expected a number of bytes"),
        (r#""http://:71326548@s""#, "unknown scheme"),
        ("true", "a URL or a table of settings"),
    ] {
        let err = serde_json::from_str::<Config>(text).expect_err(text);
        assert!(err.to_string().contains(says), "{text}: {err}");
        assert!(!format!("{err} {err:?}").contains("71326548"), "{text}: {err}");
    }
}
