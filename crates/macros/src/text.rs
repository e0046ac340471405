//! Texts with expressions in braces: `product:{id}`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::{
    Error, Expr, LitStr, Result,
    parse::{Parse, ParseStream},
};

/// A text, or an expression of one.
pub(crate) enum Text {
    Template(Template),
    Expr(Expr),
}

/// A text with expressions in it.
pub(crate) struct Template {
    literal: LitStr,
    /// Each with what stands before it.
    values: Vec<(String, Expr)>,
    /// What stands behind the last one.
    end: String,
}

impl Parse for Text {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        match input.peek(LitStr) {
            true => Ok(Self::Template(Template::new(input.parse()?)?)),
            false => Ok(Self::Expr(input.parse()?)),
        }
    }
}

impl Text {
    /// The expressions in it.
    pub(crate) fn expressions(&self) -> Vec<TokenStream> {
        match self {
            Self::Template(Template { values, .. }) => {
                values.iter().map(|(_, value)| value.to_token_stream()).collect()
            }
            Self::Expr(expr) => vec![expr.to_token_stream()],
        }
    }

    /// An expression of the bytes of it, by a cache, or locks, of this name.
    pub(crate) fn bytes(&self, by: &Ident) -> TokenStream {
        match self {
            Self::Template(template) => template.bytes(by),
            Self::Expr(expr) => quote! { #by.macro_bytes(&(#expr)) },
        }
    }

    /// An expression of it, which is a pattern.
    pub(crate) fn pattern(&self, cache: &Ident) -> Result<TokenStream> {
        match self {
            Self::Template(template) => {
                template.check_pattern()?;
                Ok(template.text(cache))
            }
            Self::Expr(expr) => Ok(quote! { #cache.macro_text(&(#expr)) }),
        }
    }
}

impl Template {
    fn new(literal: LitStr) -> Result<Self> {
        let text = literal.value();
        let wrong = |what: &str| Error::new(literal.span(), what);
        let (mut values, mut before, mut rest) = (Vec::new(), String::new(), &*text);
        while let Some(at) = rest.find(['{', '}']) {
            let (plain, behind) = rest.split_at(at);
            before.push_str(plain);
            if behind.starts_with("{{") || behind.starts_with("}}") {
                before.push_str(&behind[..1]);
                rest = &behind[2..];
                continue;
            }
            let inner = behind.strip_prefix('{').ok_or_else(|| {
                wrong("a brace is closed that is not open; write `}}` for a brace in the text")
            })?;
            let (value, behind) = inner.split_once('}').ok_or_else(|| {
                wrong("a brace is not closed; write `{{` for a brace in the text")
            })?;
            if value.trim().is_empty() {
                return Err(wrong("name an argument, or write another expression, in the braces"));
            }
            if !values.is_empty() && (before.is_empty() || before.starts_with(can_be_of_argument)) {
                return Err(wrong(RUN_TOGETHER));
            }
            let value = LitStr::new(value, literal.span()).parse::<Expr>().map_err(|error| {
                let what = "an expression that has `Display` stands in braces, and no format; for that write `key = format!(…)`";
                Error::new(literal.span(), format!("`{value}` is no expression ({error}): {what}"))
            })?;
            values.push((std::mem::take(&mut before), value));
            rest = behind;
        }
        before.push_str(rest);
        if !values.is_empty() && before.starts_with(can_be_of_argument) {
            return Err(wrong(RUN_TOGETHER));
        }
        Ok(Self { values, end: before, literal })
    }

    /// Refuses what means something in other languages of patterns; arguments have none of it.
    fn check_pattern(&self) -> Result<()> {
        let texts = self.values.iter().map(|(before, _)| before).chain([&self.end]);
        let wrong = "`*` is the only wildcard of a pattern; write `\\\\?`, `\\\\[`, `\\\\]` and `\\\\\\\\` for these characters";
        for text in texts {
            let mut characters = text.chars();
            while let Some(character) = characters.next() {
                let is_right = match character {
                    '\\' => characters.next().is_some_and(|next| "*?[]\\".contains(next)),
                    other => !"?[]".contains(other),
                };
                if !is_right {
                    return Err(Error::new(self.literal.span(), wrong));
                }
            }
        }
        Ok(())
    }

    fn text(&self, by: &Ident) -> TokenStream {
        let Self { literal, values, end } = self;
        let span = literal.span();
        let parts = values.iter().map(|(before, value)| {
            quote_spanned! { span=> (#before, &(#value) as &dyn ::core::fmt::Display) }
        });
        quote_spanned! { span=> #by.macro_name(&[#(#parts),*], #end) }
    }

    fn bytes(&self, by: &Ident) -> TokenStream {
        let text = self.text(by);
        quote! { #text.into_bytes() }
    }
}

const RUN_TOGETHER: &str = "what stands behind a brace could be a part of the argument, so that two lists of arguments would share a \
                            name; put a separator there, as `:`";

/// Whether a character can occur in the text of an argument once that is escaped, which the cache or the locks do.
fn can_be_of_argument(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.~@+%".contains(character)
}
