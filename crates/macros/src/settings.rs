//! What stands in the parentheses of an attribute.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Error, Expr, Ident, LitStr, Result, Token,
    ext::IdentExt as _,
    parenthesized,
    parse::{Parse, ParseStream, Parser as _},
    punctuated::Punctuated,
};

use crate::text::Text;

/// What an attribute says; what it does not say is empty.
#[derive(Default)]
pub(crate) struct Settings {
    cache: Option<Expr>,
    locks: Option<Expr>,
    key: Option<Text>,
    pub(crate) keys: Vec<Text>,
    pub(crate) tags: Vec<Text>,
    pub(crate) patterns: Vec<Text>,
    pub(crate) ttl: Option<Time>,
    pub(crate) stale: Option<Time>,
    pub(crate) wait: Option<Wait>,
    pub(crate) fence: Option<Ident>,
    pub(crate) when: Option<Expr>,
    map_err: Option<Expr>,
    pub(crate) cache_none: bool,
    pub(crate) in_impl: bool,
    ignore: Vec<Ident>,
    pub(crate) before: bool,
}

impl Settings {
    /// Reads those of an attribute that knows the settings of these names.
    pub(crate) fn parse(tokens: TokenStream, known: &[&str]) -> Result<Self> {
        let mut settings = Self::default();
        let parse = |input: ParseStream<'_>| {
            let mut said = HashSet::new();
            while !input.is_empty() {
                let name: Ident = input.parse()?;
                let text = name.to_string();
                if !known.contains(&&*text) {
                    let known = known.join("`, `");
                    let what =
                        format!("`{name}` is no setting of this attribute; it has `{known}`");
                    return Err(Error::new(name.span(), what));
                }
                if !said.insert(text.clone()) {
                    return Err(Error::new(name.span(), format!("`{name}` is said twice")));
                }
                settings.set(&text, input)?;
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        };
        parse.parse2(tokens)?;
        Ok(settings)
    }

    fn set(&mut self, name: &str, input: ParseStream<'_>) -> Result<()> {
        match name {
            "cache" => self.cache = Some(assigned(input)?),
            "locks" => self.locks = Some(assigned(input)?),
            "key" => self.key = Some(assigned(input)?),
            "keys" => self.keys = listed(name, input)?,
            "tags" => self.tags = listed(name, input)?,
            "patterns" => self.patterns = listed(name, input)?,
            "ttl" => self.ttl = Some(assigned::<Time>(input)?.more_than_nothing()?),
            "stale" => self.stale = Some(assigned(input)?),
            "wait" => self.wait = Some(assigned(input)?),
            "fence" => {
                let what = "write the name under which the body sees the fence: `fence = number`";
                let named = assigned(input).map_err(|error| Error::new(error.span(), what));
                self.fence = Some(named?);
            }
            "when" => self.when = Some(assigned(input)?),
            "map_err" => self.map_err = Some(assigned(input)?),
            "cache_none" => self.cache_none = true,
            "ignore" => {
                let list;
                parenthesized!(list in input);
                let names = Punctuated::<Ident, Token![,]>::parse_terminated(&list)?;
                self.ignore = names.into_iter().collect();
            }
            "in_impl" => self.in_impl = true,
            "before" => self.before = true,
            other => unreachable!("`{other}` is known and not set"),
        }
        Ok(())
    }

    pub(crate) fn cache(&self) -> Result<&Expr> {
        self.cache.as_ref().ok_or_else(|| {
            missing("say which cache it is: `cache = self.products`, or another expression")
        })
    }

    pub(crate) fn locks(&self) -> Result<&Expr> {
        self.locks.as_ref().ok_or_else(|| {
            missing("say whose lock it is: `locks = self.locks`, or another expression of `Locks`")
        })
    }

    /// Refuses an argument that is not in the key, nor says which cache it is: two results that differ by it would be one. The same for
    /// what a generic function is called with.
    pub(crate) fn check_arguments(&self, arguments: &[Ident]) -> Result<()> {
        let mut names: HashSet<_> =
            self.ignore.iter().map(|name| name.unraw().to_string()).collect();
        let cache = self.cache.iter().map(ToTokens::to_token_stream);
        for tokens in cache.chain(self.key.iter().flat_map(Text::expressions)) {
            mentioned(tokens, &mut names);
        }
        match arguments.iter().find(|name| !names.contains(&name.unraw().to_string())) {
            Some(name) => {
                let what = format!(
                    "the result can depend on this: put `{{{name}}}` into the key, or say `ignore({name})`"
                );
                Err(Error::new(name.span(), what))
            }
            None => match self.ignore.iter().find(|name| !arguments.contains(name)) {
                Some(name) => Err(Error::new(name.span(), "there is no such argument")),
                None => Ok(()),
            },
        }
    }

    /// What makes the cache's error one of the function, which may have none.
    pub(crate) fn map_err(&self, has_error: bool) -> Result<Option<&Expr>> {
        match &self.map_err {
            Some(map_err) if !has_error => {
                let what = "`map_err` is for functions that return a `Result`";
                Err(Error::new_spanned(map_err, what))
            }
            map_err => Ok(map_err.as_ref()),
        }
    }

    /// The key; where there is none, what should be said.
    pub(crate) fn key(&self, otherwise: &str) -> Result<&Text> {
        self.key.as_ref().ok_or_else(|| missing(otherwise))
    }
}

pub(crate) fn missing(what: &str) -> Error {
    Error::new(Span::call_site(), what)
}

/// `= …`
fn assigned<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// Collects the names in an expression, but for those of fields, methods and paths; also those in the braces of its texts.
fn mentioned(tokens: TokenStream, names: &mut HashSet<String>) {
    let mut before = String::new();
    for token in tokens {
        let is_of_another =
            before.ends_with("::") || before.ends_with('.') && !before.ends_with("..");
        match token {
            TokenTree::Punct(punct) => {
                before.push(punct.as_char());
                continue;
            }
            TokenTree::Ident(_) if is_of_another => {}
            TokenTree::Ident(name) => drop(names.insert(name.unraw().to_string())),
            TokenTree::Group(group) => mentioned(group.stream(), names),
            TokenTree::Literal(literal) => {
                let text = syn::parse2::<LitStr>(literal.into_token_stream());
                let text = text.map(|text| text.value().replace("{{", "")).unwrap_or_default();
                for value in text.split('{').skip(1) {
                    let value = value.split('}').next().unwrap_or_default();
                    if let Ok(tokens) = value.parse() {
                        mentioned(tokens, names);
                    }
                }
            }
        }
        before.clear();
    }
}

/// `(…, …)`
fn listed(name: &str, input: ParseStream<'_>) -> Result<Vec<Text>> {
    if input.peek(Token![=]) {
        return Err(input.error(format!("this is a list: write it as `{name}(\"…\", \"…\")`")));
    }
    let list;
    parenthesized!(list in input);
    Ok(Punctuated::<Text, Token![,]>::parse_terminated(&list)?.into_iter().collect())
}

/// A duration: as a text, or an expression.
pub(crate) enum Time {
    Text(LitStr, Duration),
    Expr(Expr),
}

impl Time {
    /// Refuses a text that says less than entries can live.
    fn more_than_nothing(self) -> Result<Self> {
        let most = Duration::MAX;
        self.check(Duration::from_millis(1)..=most, "a duration here is at least 1 millisecond")?;
        Ok(self)
    }

    /// Refuses a text that says more or less.
    pub(crate) fn check(&self, range: RangeInclusive<Duration>, what: &str) -> Result<()> {
        match self {
            Self::Text(text, said) if !range.contains(said) => Err(Error::new(text.span(), what)),
            _ => Ok(()),
        }
    }

    /// Reads a text.
    fn of(text: LitStr, examples: &str) -> Result<Self> {
        let duration = humantime::parse_duration(&text.value()).map_err(|error| {
            let what = format!("this is no duration ({error}); write one as {examples}");
            Error::new(text.span(), what)
        })?;
        Ok(Self::Text(text, duration))
    }
}

impl Parse for Time {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        match input.peek(LitStr) {
            true => Self::of(input.parse()?, "`1h`, `5m` or `250ms`"),
            false => Ok(Self::Expr(input.parse()?)),
        }
    }
}

impl ToTokens for Time {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            Self::Text(_, duration) => {
                let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
                tokens.extend(quote! { ::core::time::Duration::new(#seconds, #nanos) });
            }
            Self::Expr(expr) => expr.to_tokens(tokens),
        }
    }
}

/// What to do while somebody else has it.
pub(crate) enum Wait {
    Never,
    Forever,
    For(Time),
}

impl Parse for Wait {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if !input.peek(LitStr) {
            return Ok(Self::For(input.parse()?));
        }
        let text: LitStr = input.parse()?;
        match &*text.value() {
            "never" => Ok(Self::Never),
            "forever" => Ok(Self::Forever),
            _ => Time::of(text, "`5s` or `250ms`, or say `never` or `forever`").map(Self::For),
        }
    }
}
