//! From files to a tokenizer of the crate tokenizers, as transformers 4.37 builds its fast tokenizers: tokenizer.json
//! with the overrides of tokenizer_config.json, or the older vocabulary files. Encoding does not belong here.

use crate::assets::Assets;
use crate::error::{Error, Result, shorten, walled};
use crate::tokenizer_config::{Role, TokenSpec, TokenizerConfig, Vocabulary};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer};

type Built = (Tokenizer, &'static str);

/// Builds the tokenizer; the second part names its files for messages.
pub(super) fn build(assets: &Assets, config: &TokenizerConfig) -> Result<Built> {
    let (mut tokenizer, source) = if let Some(text) = assets.text("tokenizer.json")? {
        (from_json(text, config)?, "tokenizer.json")
    } else {
        match config.class.vocabulary {
            Vocabulary::WordPiece => (word_piece(assets, config)?, "vocab.txt"),
            Vocabulary::ByteLevelBpe => (byte_level(assets, config, false)?, "vocab.json with merges.txt"),
            Vocabulary::RobertaBpe => (byte_level(assets, config, true)?, "vocab.json with merges.txt"),
            Vocabulary::Ctc | Vocabulary::TokenizerJson => return Err(Error::from(config)),
        }
    };
    add_tokens(&mut tokenizer, config).map_err(|e| failed(source, e))?;
    Ok((tokenizer, source))
}

fn failed(file: &str, message: impl std::fmt::Display) -> Error {
    Error::Tokenizer { file: file.to_owned(), message: message.to_string() }
}

/// The keys of BERT's normaliser, with transformers' defaults.
struct BertSettings {
    lower: bool,
    accents: Option<bool>,
    chinese: bool,
}

impl BertSettings {
    fn read(config: &TokenizerConfig) -> Result<Self> {
        Ok(BertSettings {
            lower: config.doc.bool("do_lower_case")?.unwrap_or(true),
            accents: config.doc.bool("strip_accents")?,
            chinese: config.doc.bool("tokenize_chinese_chars")?.unwrap_or(true),
        })
    }
}

fn from_json(text: &str, config: &TokenizerConfig) -> Result<Tokenizer> {
    const FILE: &str = "tokenizer.json";
    let mut tokenizer = walled(|| Tokenizer::from_bytes(text))
        .ok_or_else(|| failed(FILE, "not a tokenizer"))?
        .map_err(|e| failed(FILE, e))?;
    // The settings override what the file has, for the classes that take them.
    match config.class.vocabulary {
        Vocabulary::WordPiece => {
            let settings = BertSettings::read(config)?;
            if let Some(NormalizerWrapper::BertNormalizer(n)) = tokenizer.get_normalizer() {
                let same = n.lowercase == settings.lower
                    && n.strip_accents == settings.accents
                    && n.handle_chinese_chars == settings.chinese;
                if !same {
                    let n =
                        BertNormalizer::new(n.clean_text, settings.chinese, settings.accents, settings.lower);
                    tokenizer.with_normalizer(Some(n)).map_err(|e| failed(FILE, e))?;
                }
            }
        }
        Vocabulary::ByteLevelBpe | Vocabulary::RobertaBpe => {
            let space = config.doc.bool("add_prefix_space")?.unwrap_or(false);
            if let Some(PreTokenizerWrapper::ByteLevel(p)) = tokenizer.get_pre_tokenizer() {
                let p = p.add_prefix_space(space);
                tokenizer.with_pre_tokenizer(Some(p));
            }
        }
        Vocabulary::Ctc | Vocabulary::TokenizerJson => {}
    }
    Ok(tokenizer)
}

/// BERT: basic tokenization and WordPiece. Special tokens are never split, as they are added tokens.
fn word_piece(assets: &Assets, config: &TokenizerConfig) -> Result<Tokenizer> {
    const FILE: &str = "vocab.txt";
    let text = assets.text(FILE)?.ok_or_else(|| Error::from(config))?;
    let mut vocab = Vocab::default();
    for (id, token) in (0u32..).zip(python_lines(text).split_terminator('\n')) {
        vocab.insert(token.to_owned(), id);
    }
    let settings = BertSettings::read(config)?;
    let unk = config.token(Role::Unk).unwrap_or("[UNK]");
    let model =
        WordPiece::builder().vocab(vocab).unk_token(unk.to_owned()).build().map_err(|e| failed(FILE, e))?;
    let mut tokenizer = Tokenizer::new(model);
    // The conversion from the slow tokenizer turns "as do_lower_case" into what that means.
    let normalizer = BertNormalizer::new(true, settings.chinese, settings.accents, settings.lower);
    tokenizer.with_normalizer(Some(normalizer)).map_err(|e| failed(FILE, e))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let (cls, sep) =
        (required(&tokenizer, config, Role::Cls, FILE)?, required(&tokenizer, config, Role::Sep, FILE)?);
    let template = TemplateProcessing::builder()
        .try_single(vec![format!("{}:0", cls.0), "$A:0".to_owned(), format!("{}:0", sep.0)])
        .and_then(|b| {
            b.try_pair(vec![
                format!("{}:0", cls.0),
                "$A:0".to_owned(),
                format!("{}:0", sep.0),
                "$B:1".to_owned(),
                format!("{}:1", sep.0),
            ])
        })
        .map_err(|e| failed(FILE, e))?
        .special_tokens(vec![cls, sep])
        .build()
        .map_err(|e| failed(FILE, e))?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}

/// GPT-2's byte-level BPE, and RoBERTa's form of it.
fn byte_level(assets: &Assets, config: &TokenizerConfig, roberta: bool) -> Result<Tokenizer> {
    const VOCAB: &str = "vocab.json";
    const MERGES: &str = "merges.txt";
    if !assets.contains(VOCAB) {
        return Err(Error::from(config));
    }
    let doc = assets.json(VOCAB)?;
    let mut vocab = Vocab::default();
    for (token, id) in doc.entries() {
        let id =
            id.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| doc.wrong(token, "a token id"))?;
        vocab.insert(token.to_owned(), id);
    }
    let merges = read_merges(MERGES, assets.text(MERGES)?.ok_or_else(|| Error::from(config))?)?;
    let model = BPE::builder().vocab_and_merges(vocab, merges).build().map_err(|e| failed(MERGES, e))?;
    let mut tokenizer = Tokenizer::new(model);
    let space = config.doc.bool("add_prefix_space")?.unwrap_or(false);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(space, true, true)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let processor: PostProcessorWrapper = if roberta {
        let sep = required(&tokenizer, config, Role::Sep, VOCAB)?;
        let cls = required(&tokenizer, config, Role::Cls, VOCAB)?;
        RobertaProcessing::new(sep, cls).trim_offsets(true).add_prefix_space(space).into()
    } else if config.doc.bool("add_bos_token")?.unwrap_or(false) {
        let bos = required(&tokenizer, config, Role::Bos, VOCAB)?;
        TemplateProcessing::builder()
            .try_single(vec![format!("{}:0", bos.0), "$A:0".to_owned()])
            .and_then(|b| b.try_pair(vec![format!("{}:0", bos.0), "$A:0".to_owned(), "$B:1".to_owned()]))
            .map_err(|e| failed(VOCAB, e))?
            .special_tokens(vec![bos])
            .build()
            .map_err(|e| failed(VOCAB, e))?
            .into()
    } else {
        ByteLevel::default().trim_offsets(false).into()
    };
    tokenizer.with_post_processor(Some(processor));
    Ok(tokenizer)
}

/// A special token that the vocabulary must hold, and its id.
fn required(
    tokenizer: &Tokenizer,
    config: &TokenizerConfig,
    role: Role,
    file: &str,
) -> Result<(String, u32)> {
    let missing = Error::NoToken { role: role.key(), why: "encoding adds it to every text" };
    let token = config.token(role).ok_or(missing)?;
    let id = tokenizer
        .token_to_id(token)
        .ok_or_else(|| failed(file, format!("no {} {token:?} in it", role.key())))?;
    Ok((token.to_owned(), id))
}

/// Python's text mode reads every line end as `\n`.
fn python_lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The pairs of merges.txt. As in transformers, its first line (a version) and what follows the last line end are left
/// out.
fn read_merges(file: &str, text: &str) -> Result<Merges> {
    let text = python_lines(text);
    let lines: Vec<&str> = text.split('\n').collect();
    let body = lines.get(1..lines.len().saturating_sub(1)).unwrap_or(&[]);
    body.iter()
        .zip(2usize..)
        .map(|(line, number)| {
            let mut parts = line.split_whitespace();
            match (parts.next(), parts.next(), parts.next()) {
                (Some(a), Some(b), None) => Ok((a.to_owned(), b.to_owned())),
                _ => Err(Error::Line {
                    file: file.to_owned(),
                    line: number,
                    expected: "two tokens with a space between",
                    got: shorten(line),
                }),
            }
        })
        .collect()
}

/// Adds what the settings name and the tokenizer lacks: added tokens by id, then special tokens.
fn add_tokens(tokenizer: &mut Tokenizer, config: &TokenizerConfig) -> std::result::Result<(), String> {
    let special = config.all_special();
    let present: Vec<String> =
        tokenizer.get_added_tokens_decoder().into_values().map(|t| t.content).collect();
    let mut wanted: Vec<TokenSpec> = Vec::new();
    for token in config.added.iter().map(|(_, t)| t).chain(special.iter().copied()) {
        let known = present.contains(&token.content) || wanted.iter().any(|w| w.content == token.content);
        if !known {
            let is_special = token.special || special.iter().any(|s| s.content == token.content);
            wanted.push(TokenSpec { special: is_special, ..token.clone() });
        }
    }
    let tokens = wanted.into_iter().map(|t| {
        AddedToken::from(t.content, t.special)
            .lstrip(t.lstrip)
            .rstrip(t.rstrip)
            .single_word(t.single_word)
            .normalized(t.normalized)
    });
    tokenizer.add_tokens(tokens).map_err(|e| e.to_string())?;
    Ok(())
}
