//! What the attribute is for.
#![deny(warnings)]

use std::{fmt::Display, time::Duration};

use redbrick_lock::{Error, Locks, NotHeld, Wait, locked};

#[derive(Debug)]
pub enum ShopError {
    Busy,
    Lock(Error),
    None,
}

impl From<NotHeld> for ShopError {
    fn from(error: NotHeld) -> Self {
        match error {
            NotHeld::Failed(error) => Self::Lock(error),
            _ => Self::Busy,
        }
    }
}

pub struct Shop {
    pub locks: Locks,
    pub left: u64,
    pub names: Vec<String>,
}

impl Shop {
    /// Reserves one.
    #[locked(locks = self.locks, key = "inventory:{id}", ttl = "30s", wait = "5s", fence = number)]
    pub async fn reserve(&self, id: u64) -> Result<u64, ShopError> {
        if id == 0 {
            return Err(ShopError::None);
        }
        let left = self.left.checked_sub(id).ok_or(ShopError::None)?;
        Ok(left + number)
    }

    /// It changes itself, and what it was given.
    #[locked(locks = self.locks, key = "shop", wait = "never")]
    pub async fn fill(&mut self, mut more: u64, names: &mut Vec<String>) -> Result<(), ShopError> {
        const LEAST: u64 = 1;
        more += LEAST;
        self.left += more;
        self.names.append(names);
        Ok(())
    }

    /// It takes itself and a text, and gives back a part.
    #[locked(locks = self.locks, key = "{name}", wait = "forever", map_err = |_| name_of(7))]
    pub async fn close(mut self, name: String) -> Result<Vec<String>, String> {
        self.names.push(name);
        Ok(self.names)
    }

    /// It gives back what it borrows.
    #[locked(locks = self.locks, key = "first", wait = Wait::Never, ttl = Duration::from_secs(self.left))]
    pub async fn first<'a>(&self, of: &'a [String]) -> Result<&'a str, Box<dyn std::error::Error + Send + Sync>> {
        Ok(of.first().ok_or("there is none")?)
    }

    #[locked(locks = of.locks, key = name_of(N), wait = wait)]
    pub async fn any<T: Display + Send, const N: usize>(of: &Self, value: T, wait: Duration) -> Result<String, ShopError>
    where
        T: Sync,
    {
        Ok(format!("{value}{}", of.left))
    }
}

fn name_of(number: usize) -> String {
    number.to_string()
}

#[expect(async_fn_in_trait, reason = "nobody spawns these")]
pub trait Counts {
    async fn count(&self) -> Result<Option<u64>, NotHeld>;

    #[locked(locks = self.locks().await, key = "twice", map_err = drop)]
    async fn twice(&self) -> Result<u64, ()> {
        Ok(2 * self.count().await.map_err(drop)?.unwrap_or(0))
    }

    async fn locks(&self) -> Locks;
}

impl Counts for Shop {
    #[locked(locks = self.locks, key = "{{count}}")]
    async fn count(&self) -> Result<Option<u64>, NotHeld> {
        Ok(Some(self.left))
    }

    async fn locks(&self) -> Locks {
        self.locks.clone()
    }
}

/// What is said of the whole function is said of it.
#[expect(non_snake_case, reason = "it is met")]
#[locked(locks = locks, key = "{Id}")]
pub async fn odd(locks: &Locks, Id: u64) -> std::result::Result<u64, NotHeld> {
    #![deny(unused_mut)]
    Ok(Id)
}

#[locked(locks = locks, key = "shape")]
async fn listed(locks: &Locks) -> Result<impl Iterator<Item = u64> + use<>, NotHeld> {
    Ok([1, 2].into_iter())
}

pub trait Shape: Send {}

pub struct Round;

impl Shape for Round {}

/// What is returned becomes what is to be returned.
#[locked(locks = locks, key = format!("{{}}:{id}"))]
pub async fn shaped(locks: &Locks, id: u64) -> Result<Box<dyn Shape>, Box<dyn std::error::Error + Send + Sync>> {
    if id == 0 {
        return Err(Box::new(std::io::Error::other("there is none")));
    }
    match id {
        1 => Ok(Box::new(Round)),
        _ => Err(NotHeld::Busy)?,
    }
}

fn is_send<T: Send>(_: &T) {}

fn main() {
    // Their futures can be spawned.
    let _ = |mut shop: Shop, locks: Locks| {
        is_send(&shop.reserve(7));
        is_send(&shop.fill(7, &mut Vec::new()));
        is_send(&shop.first(&[]));
        is_send(&Shop::any::<_, 7>(&shop, 'x', Duration::ZERO));
        is_send(&shop.count());
        is_send(&odd(&locks, 7));
        is_send(&listed(&locks));
        is_send(&shaped(&locks, 7));
        is_send(&shop.close(String::new()));
    };
}
