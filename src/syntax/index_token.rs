//! Teaches Rhai indexes of several dimensions, `t[0, -1]`, `t[:, 2:5]` and `t[..., 0]`. Between the brackets of an index
//! commas, colons and `...` become tokens of their own: one token stands for one, so every place in a text stays.

use std::cell::RefCell;

use rhai::{Position, Token};

/// The operator that a comma between two indexes becomes.
pub const COMMA: &str = "[,]";
/// The syntax that begins with a comma after an open range, `1.., 0`.
pub const COMMA_AFTER_RANGE: &str = "[..,]";
/// The syntax that begins with a colon before which nothing stands, `:` or `:5`.
pub const COLON: &str = "[:]";
/// The text that stands for `...`.
pub const ELLIPSIS: &str = "...";

/// An open bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    /// Of an index.
    Index,
    /// Any other.
    Other,
}

/// What the last token was, as far as it matters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// It ends a value, so that a bracket after it opens an index.
    Value,
    /// It begins a dimension of an index.
    Begin,
    /// It is the sign of a range.
    Range,
    #[default]
    Other,
}

/// Follows the tokens of a text.
#[derive(Debug, Default)]
struct Follower {
    open: Vec<Bracket>,
    last: Last,
    position: (usize, usize),
}

/// Changes the tokens of the texts that are parsed one after the other.
#[derive(Debug, Default)]
pub struct IndexTokens(RefCell<Follower>);

impl IndexTokens {
    /// The token in place of `token`, the next in the text.
    pub fn map(&self, token: Token, position: Position) -> Token {
        self.0.borrow_mut().map(token, position)
    }
}

impl Follower {
    fn map(&mut self, token: Token, position: Position) -> Token {
        let position = (position.line().unwrap_or(0), position.position().unwrap_or(0));
        if position <= self.position {
            // Another text; the last one may have ended within a bracket.
            *self = Self::default();
        }
        self.position = position;
        let within = self.open.last() == Some(&Bracket::Index);
        let token = match token {
            Token::Comma if within && self.last == Last::Range => custom(COMMA_AFTER_RANGE),
            Token::Comma if within => custom(COMMA),
            Token::Colon if within && self.last == Last::Begin => custom(COLON),
            Token::Colon if within => Token::ExclusiveRange,
            Token::Reserved(word) if within && *word == ELLIPSIS => Token::StringConstant(word),
            other => other,
        };
        self.last = match &token {
            Token::LeftBracket | Token::QuestionBracket if self.last == Last::Value => {
                self.open.push(Bracket::Index);
                Last::Begin
            }
            Token::LeftBracket | Token::LeftParen | Token::LeftBrace | Token::MapStart => {
                self.open.push(Bracket::Other);
                Last::Other
            }
            Token::RightBracket | Token::RightParen => {
                self.open.pop();
                Last::Value
            }
            Token::RightBrace => {
                self.open.pop();
                Last::Other
            }
            Token::Identifier(_) | Token::StringConstant(_) | Token::Unit => Last::Value,
            Token::Reserved(word) if **word == "this" => Last::Value,
            Token::ExclusiveRange | Token::InclusiveRange => Last::Range,
            Token::Custom(name) if **name == COMMA || **name == COMMA_AFTER_RANGE => Last::Begin,
            _ => Last::Other,
        };
        token
    }
}

fn custom(name: &str) -> Token {
    Token::Custom(Box::new(name.into()))
}
