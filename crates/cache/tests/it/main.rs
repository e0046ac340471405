//! cache against real servers, one file per behavior.

use std::time::Duration;

use redbrick_core_conn::{Config, Conn, Tls};
use redbrick_testkit::{shared, unique};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the server that the tests of this binary share, on whatever topology this run is about, with a key
/// prefix of the test's own.
async fn connect(test: &str) -> Conn {
    let mut config = Config::builder().url(shared().url()).key_prefix(unique(test));
    if let Some(tls) = shared().tls() {
        let authority = Tls::new().ca_pem(tls.ca_pem());
        config = config.tls_with(authority.expect("testkit's authority"));
    }
    Conn::connect(config).await.expect("the shared server")
}
