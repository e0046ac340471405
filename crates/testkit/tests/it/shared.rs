//! The server that a test binary shares, in each of its forms.

use std::{env, process::Command, thread};

use redbrick_testkit::{Server, Topology, shared, unique};

#[test]
fn is_one_for_all() {
    let key = unique("shared");
    shared().command(["SET", &key, "1"]).unwrap();
    let again = thread::spawn(|| std::ptr::from_ref(shared()) as usize).join().unwrap();
    assert_eq!(again, std::ptr::from_ref(shared()) as usize);
    assert_eq!(shared().command(["GET", &key]).unwrap().as_int(), Some(1));
}

#[test]
fn takes_the_form_that_is_asked_for() {
    for form in ["standalone", "cluster", "sentinel"] {
        let (ok, said) = child(&[("REDBRICK_TEST_TOPOLOGY", form)]);
        assert!(ok, "{form}: {said}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn takes_the_form_of_tls_where_the_server_can() {
    let (ok, said) = child(&[("REDBRICK_TEST_TOPOLOGY", "tls")]);
    assert!(ok || said.contains("was built without TLS"), "{said}");
}

#[test]
fn refuses_a_form_that_does_not_exist() {
    let (ok, said) = child(&[("REDBRICK_TEST_TOPOLOGY", "star")]);
    assert!(!ok && said.contains("write standalone, cluster, sentinel or tls"), "{said}");
}

#[test]
fn uses_the_server_of_somebody_else_and_says_so() {
    let server =
        Server::builder().user("app", "s3cr3t/", "~* +@all").default_user_off().start().unwrap();
    let url = format!("redis://app:s3cr3t%2F@{}", server.address());
    let (ok, said) = child(&[("REDIS_URL", &url)]);
    assert!(ok, "{said}");
    let announced = format!("REDIS_URL is set: these tests use redis://{}", server.address());
    assert!(said.contains(&announced) && !said.contains("s3cr3t"), "{said}");
    assert_eq!(server.command_counts().unwrap().of("incr"), 1);

    let (ok, said) = child(&[("REDIS_URL", &url), ("REDBRICK_TEST_TOPOLOGY", "cluster")]);
    assert!(!ok && said.contains("unset one of the two") && !said.contains("s3cr3t"), "{said}");
}

/// Holds in this process's environment as in those that the tests above make.
#[test]
fn is_what_the_environment_says() {
    let shared = shared();
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let topology = variable("REDBRICK_TEST_TOPOLOGY");
    assert_eq!(shared.topology().to_string(), topology.as_deref().unwrap_or("standalone"));
    let scheme = match shared.topology() {
        Topology::Standalone => "redis://",
        Topology::Cluster => "redis-cluster://",
        Topology::Sentinel => "redis-sentinel://",
        _ => "rediss://",
    };
    let url = variable("REDIS_URL");
    let external = url.is_some();
    assert!(shared.url().starts_with(url.as_deref().unwrap_or(scheme)), "it has another URL");
    let alone = matches!(shared.topology(), Topology::Standalone | Topology::Tls);
    assert_eq!(shared.server().is_some(), alone && !external);
    assert_eq!(shared.cluster().is_some(), shared.topology() == Topology::Cluster);
    assert_eq!(shared.sentinel().is_some(), shared.topology() == Topology::Sentinel);
    #[cfg(feature = "tls")]
    assert_eq!(shared.tls().is_some(), shared.topology() == Topology::Tls);
    assert_eq!(shared.command(["INCR", &unique("n")]).unwrap().as_int(), Some(1));
}

/// Runs this test binary once more in another environment; whether it passed, and what it said.
fn child(environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(env::current_exe().expect("the path of this binary"))
        .args(["--exact", "shared::is_what_the_environment_says"])
        .env_remove("REDIS_URL")
        .env_remove("REDBRICK_TEST_TOPOLOGY")
        .envs(environment.iter().copied())
        .output()
        .expect("this binary starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("running 1 test"), "there is no such test: {said}");
    (output.status.success(), said)
}
