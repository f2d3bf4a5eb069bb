//! The query syntax of label selectors, and the errors that Kubernetes gives for it.

use super::{Requirement, SelectorError, Test};

/// The operators between a key and its values, in the order of the error text.
const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Clone, Copy, PartialEq, Debug)]
enum Token<'q> {
    Word(&'q str),
    Symbol(&'q str),
    End,
}

impl<'q> Token<'q> {
    fn text(self) -> &'q str {
        match self {
            Token::Word(text) | Token::Symbol(text) => text,
            Token::End => "",
        }
    }
}

fn tokens(query: &str) -> Vec<Token<'_>> {
    const SYMBOLS: [&str; 10] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<", ""];
    let mut tokens = Vec::new();
    let mut rest = query.trim_start_matches(is_space);
    while !rest.is_empty() {
        let symbol = SYMBOLS
            .iter()
            .find(|symbol| rest.starts_with(**symbol))
            .copied()
            .unwrap_or_default();
        let length = match symbol {
            "" => rest.find(|c| is_space(c) || is_special(c)).unwrap_or(rest.len()),
            symbol => symbol.len(),
        };
        let (text, after) = rest.split_at(length);
        tokens.push(if symbol.is_empty() {
            Token::Word(text)
        } else {
            Token::Symbol(text)
        });
        rest = after.trim_start_matches(is_space);
    }
    tokens
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

struct Parser<'q> {
    tokens: Vec<Token<'q>>,
    at: usize,
}

type Parsed<T> = Result<T, String>;

impl<'q> Parser<'q> {
    fn peek(&self) -> Token<'q> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'q> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let negated = self.peek() == Token::Symbol("!");
        if negated {
            self.next();
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(format!("found '{}', expected: identifier", other.text())),
        };
        if let Some(problem) = key_problem(key) {
            return Err(format!("<nil>: Invalid value: {key:?}: {problem}"));
        }
        if negated {
            return Ok(Requirement {
                key: key.into(),
                test: Test::DoesNotExist,
            });
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(Requirement {
                key: key.into(),
                test: Test::Exists,
            });
        }
        let operator = self.next().text();
        let test = match operator {
            "in" => Test::In(self.set()?),
            "notin" => Test::NotIn(self.set()?),
            "=" | "==" => Test::In(Box::new([self.exact_value().into()])),
            "!=" => Test::NotIn(Box::new([self.exact_value().into()])),
            ">" | "gt" => Test::Gt(number(self.exact_value())?),
            "<" | "lt" => Test::Lt(number(self.exact_value())?),
            other => return Err(format!("found '{other}', expected: {BINARY_OPERATORS}")),
        };
        if let Test::In(values) | Test::NotIn(values) = &test {
            for value in values {
                if let Some(problem) = value_problem(value) {
                    return Err(format!("values[0][{key}]: Invalid value: {value:?}: {problem}"));
                }
            }
        }
        Ok(Requirement {
            key: key.into(),
            test,
        })
    }

    /// Reads the value after an operator. It may be missing, which means the empty value.
    fn exact_value(&mut self) -> &'q str {
        match self.peek() {
            Token::Word(word) => {
                self.next();
                word
            }
            _ => "",
        }
    }

    /// Reads `(a, b)`. Nothing between two commas means the empty value.
    fn set(&mut self) -> Parsed<Box<[Box<str>]>> {
        if self.peek() != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", self.peek().text()));
        }
        self.next();
        let mut values = std::collections::BTreeSet::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.insert(Box::from(word));
                    match self.next() {
                        Token::Symbol(",") if self.peek() == Token::Symbol(")") => {
                            values.insert(Box::from(""));
                        }
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Symbol(",") => {
                    values.insert(Box::from(""));
                }
                Token::Symbol(")") => {
                    if values.is_empty() {
                        values.insert(Box::from(""));
                    }
                    break;
                }
                other => {
                    return Err(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    ));
                }
            }
        }
        Ok(values.into_iter().collect())
    }
}

fn number(text: &str) -> Parsed<i64> {
    text.parse().map_err(|_| {
        format!("values[0]: Invalid value: {text:?}: for 'Gt', 'Lt' operators, the value must be an integer")
    })
}

/// Parses the requirements and sorts them by key, as Kubernetes does.
pub(super) fn parse(query: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser {
        tokens: tokens(query),
        at: 0,
    };
    let mut requirements = Vec::new();
    if parser.peek() == Token::End {
        return Ok(requirements);
    }
    loop {
        match parser.peek() {
            Token::Word(_) | Token::Symbol("!") => {
                let requirement = parser
                    .requirement()
                    .map_err(|problem| SelectorError(format!("unable to parse requirement: {problem}")))?;
                requirements.push(requirement);
                match parser.next() {
                    Token::End => break,
                    Token::Symbol(",") => match parser.peek() {
                        Token::Word(_) | Token::Symbol("!") => {}
                        other => {
                            return Err(SelectorError(format!(
                                "found '{}', expected: identifier after ','",
                                other.text()
                            )));
                        }
                    },
                    other => {
                        return Err(SelectorError(format!(
                            "found '{}', expected: ',' or 'end of string'",
                            other.text()
                        )));
                    }
                }
            }
            other => {
                return Err(SelectorError(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    other.text()
                )));
            }
        }
    }
    requirements.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
    Ok(requirements)
}

const KEY_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
    start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Most bytes of a label value, and of the name part of a label key.
const LONGEST_NAME: usize = 63;

fn is_name(text: &str) -> bool {
    let ends_well = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends_well(text.bytes().next())
        && ends_well(text.bytes().last())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}

fn key_problem(key: &str) -> Option<String> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix == Some("") {
        return Some("prefix part must be non-empty".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Some(format!("name part must be no more than {LONGEST_NAME} bytes"));
    }
    (!is_name(name)).then(|| KEY_RULE.to_owned())
}

fn value_problem(value: &str) -> Option<String> {
    if value.len() > LONGEST_NAME {
        return Some(format!("must be no more than {LONGEST_NAME} bytes"));
    }
    (!value.is_empty() && !is_name(value)).then(|| VALUE_RULE.to_owned())
}
