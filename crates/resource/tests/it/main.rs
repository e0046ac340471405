//! resource against real servers, one file per behavior.

mod by_field;
mod cost;
mod down;
mod input;
mod leftovers;
mod life;
mod list;
mod messages;
mod metrics;
mod poison;
mod race;
mod records;
mod resources;
mod state;
mod topology;

use std::{borrow::Cow, num::NonZeroU32, time::Duration};

use redbrick_core_conn::{Config, Conn, Tls};
use redbrick_resource::{Record, Resource};
use redbrick_testkit::{shared, unique};
use serde::{Deserialize, Serialize};

/// How long a test waits for what must happen; far more than it takes, so that a slow machine passes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the server that the tests of this binary share, on whatever topology this run is about, with a key
/// prefix of the test's own.
async fn connect(test: &str) -> Conn {
    connect_below(&unique(test)).await
}

/// The same with a prefix that several connections share.
async fn connect_below(prefix: &str) -> Conn {
    let config = Config::builder().url(shared().url()).key_prefix(prefix);
    let mut config = config.command_timeout(PATIENCE);
    if let Some(tls) = shared().tls() {
        let authority = Tls::new().ca_pem(tls.ca_pem());
        config = config.tls_with(authority.expect("testkit's authority"));
    }
    Conn::connect(config).await.expect("the shared server")
}

/// A record with a unique field, and two for lookup.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct User {
    id: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    city: Option<String>,
    #[serde(default)]
    age: u32,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
}

impl Record for User {
    const NAME: &'static str = "users";
    const UNIQUE: &'static [&'static str] = &["email"];
    const LOOKUP: &'static [&'static str] = &["city", "age"];

    fn id(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
}

/// A user whose other fields follow from the id.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn user(id: impl ToString) -> User {
    let id = id.to_string();
    let email = Some(format!("{id}@example.com"));
    User { id, email, city: Some("Rome".to_owned()), age: 30, tags: vec![], nick: None }
}

async fn users(test: &str) -> Resource<User> {
    Resource::new(connect(test).await)
}

fn size(size: u32) -> NonZeroU32 {
    NonZeroU32::new(size).expect("a page holds something")
}

/// Blocks off the runtime's thread until `ready` says yes.
async fn eventually(what: &str, ready: impl FnMut() -> bool + Send + 'static) {
    let came = tokio::task::spawn_blocking(move || redbrick_testkit::wait_until(PATIENCE, ready));
    assert!(came.await.expect("the wait itself"), "never came: {what}");
}
