//! A web service on four bricks: a cached page, a limited login, sessions, and a payment that is made one at a time.
//!
//! ```sh
//! REDIS_URL=redis://localhost:6379 cargo run --package redbrick --example service --features full
//! curl localhost:3000/product/lamp
//! curl -i -X POST localhost:3000/login/ada
//! curl -X POST -b 'session=…' localhost:3000/pay/7
//! curl -X POST -b 'session=…' localhost:3000/logout
//! ```

#![expect(clippy::print_stderr, reason = "it stands for the log of a service")]

use std::{io, num::NonZeroU32};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use redbrick::prelude::*;

const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();

#[derive(Clone)]
struct App {
    products: Cache<String>,
    logins: RateLimiter,
    sessions: Sessions,
    locks: Locks,
}

/// Whatever went wrong between here and Redis; the client is told no more than that.
struct Unavailable;

impl<E: std::error::Error> From<E> for Unavailable {
    fn from(error: E) -> Self {
        // Where a service has its log.
        eprintln!("{error}");
        Self
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment").into_response()
    }
}

/// From the cache, or from where products come from, also while Redis is away.
async fn product(State(app): State<App>, Path(id): Path<String>) -> Result<String, Unavailable> {
    let load = || async { Ok::<_, io::Error>(format!("a {id}, fresh from the database")) };
    Ok(app.products.get_or_load(&id, load).tags(["products"]).await?)
}

/// Five attempts a minute for each user, then a session.
async fn login(State(app): State<App>, Path(user): Path<String>) -> Result<Response, Unavailable> {
    if let Some(seconds) = app.logins.consume(&user).await?.retry_after_seconds() {
        let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
        return Ok((StatusCode::TOO_MANY_REQUESTS, retry_after).into_response());
    }
    // Here the password is checked.
    let session = app.sessions.create(&user, ()).await?;
    let id = session.id().expose();
    let cookie = format!("session={id}; Path=/; HttpOnly; Secure; SameSite=Lax");
    Ok(([(header::SET_COOKIE, cookie)], "welcome").into_response())
}

/// Charges for an order, unless another request is at it.
async fn pay(
    State(app): State<App>,
    Path(order): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Unavailable> {
    let Some(id) = session_id(&headers) else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let Some(session) = app.sessions.get_and_touch(&id).await? else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let lock = app.locks.try_lock(format!("pay:{order}"));
    // Here the order is charged; the fence goes along, so that a request that was held up is refused.
    let charge =
        |fence| async move { format!("{} paid for {order}, number {fence}", session.user()) };
    Ok(match lock.with(charge).await? {
        Some(receipt) => receipt.into_response(),
        None => StatusCode::CONFLICT.into_response(),
    })
}

/// Ends the session; a request of it that still runs brings nothing back.
async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<StatusCode, Unavailable> {
    if let Some(id) = session_id(&headers) {
        app.sessions.delete(&id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

fn session_id(headers: &HeaderMap) -> Option<SessionId> {
    let mut cookies = headers.get(header::COOKIE)?.to_str().ok()?.split("; ");
    cookies.find_map(|cookie| cookie.strip_prefix("session="))?.parse().ok()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = Conn::from_env().await?;
    let app = App {
        products: Cache::new(conn.clone(), "products"),
        logins: RateLimiter::new(conn.clone(), "login", Quota::per_minute(FIVE))?,
        sessions: Sessions::new(conn.clone()),
        locks: Locks::new(conn),
    };
    let router = Router::new()
        .route("/product/{id}", get(product))
        .route("/login/{user}", post(login))
        .route("/pay/{order}", post(pay))
        .route("/logout", post(logout))
        .with_state(app);
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, router).await?;
    Ok(())
}
