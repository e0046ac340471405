//! A web service on four bricks: a cached page, a limited login, sessions, and a lock around what must happen once.
//!
//! ```sh
//! REDIS_URL=redis://localhost:6379 cargo run --package redbrick --example service --features full
//! curl -i -X POST localhost:3000/login/ada
//! curl -i -b 'session=…' localhost:3000/cart/lamp -X POST
//! ```

use std::{io, num::NonZeroU32};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use redbrick::{prelude::*, session::Saved};

#[derive(Clone)]
struct App {
    products: Cache<String>,
    logins: RateLimiter,
    sessions: Sessions<Vec<String>>,
    locks: Locks,
}

/// Whatever went wrong between here and Redis.
struct Failure(Box<dyn std::error::Error>);

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, self.0.to_string()).into_response()
    }
}

/// From the cache, or from where products come from.
async fn product(State(app): State<App>, Path(id): Path<String>) -> Result<String, Failure> {
    let load = || async { Ok::<_, io::Error>(format!("a {id}, fresh from the database")) };
    Ok(app.products.get_or_load(&id, load).tags(["products"]).await?)
}

/// Five attempts a minute for each user, then a session.
async fn login(State(app): State<App>, Path(user): Path<String>) -> Result<Response, Failure> {
    if let Some(seconds) = app.logins.consume(&user).await?.retry_after_seconds() {
        let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
        return Ok((StatusCode::TOO_MANY_REQUESTS, retry_after).into_response());
    }
    // Here the password would be checked.
    let session = app.sessions.create(&user, Vec::new()).await?;
    let cookie = format!("session={}; HttpOnly; Secure; SameSite=Lax", session.id().expose());
    Ok(([(header::SET_COOKIE, cookie)], "welcome").into_response())
}

/// Puts an item into the cart of whoever is logged in; one order at a time for each item.
async fn order(
    State(app): State<App>,
    Path(item): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let cookie = headers.get(header::COOKIE).and_then(|value| value.to_str().ok());
    let id = cookie.and_then(|cookie| cookie.strip_prefix("session=")?.parse::<SessionId>().ok());
    let Some(id) = id else { return Ok(StatusCode::UNAUTHORIZED.into_response()) };
    let ordered = app.locks.with_lock(&item, |_fence| async {
        // Again when another request of the same session was faster.
        while let Some(mut session) = app.sessions.get_and_touch(&id).await? {
            session.data.push(item.clone());
            if app.sessions.save(&mut session).await? == Saved::Saved {
                return Ok(Some(session.data));
            }
        }
        Ok::<_, redbrick::session::Error>(None)
    });
    Ok(match ordered.await?.transpose()?.flatten() {
        Some(cart) => Json(cart).into_response(),
        None => StatusCode::CONFLICT.into_response(),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = Conn::from_env().await?;
    let five = NonZeroU32::new(5).ok_or("five is not zero")?;
    let app = App {
        products: Cache::new(conn.clone(), "products"),
        logins: RateLimiter::new(conn.clone(), "login", Quota::per_minute(five))?,
        sessions: Sessions::new(conn.clone()),
        locks: Locks::new(conn),
    };
    let router = Router::new()
        .route("/product/{id}", get(product))
        .route("/login/{user}", post(login))
        .route("/cart/{item}", post(order))
        .with_state(app);
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, router).await?;
    Ok(())
}
