//! The image processors of transformers 4.37: one table line a class with its defaults, and the one order of steps that
//! all of them share. Decoding and the arithmetic of resizing do not belong here.

use super::{Filter, Picture, decode, resize};
use crate::assets::{Assets, RawFile};
use crate::doc::Doc;
use crate::error::{Error, Result};
use frit_ir::Tensor;

const FILE: &str = "preprocessor_config.json";

/// The size that a picture is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly so many pixels.
    Exact {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// The shorter side gets so many pixels, the longer one keeps the proportion, rounded down.
    ShortestEdge(usize),
}

/// The defaults of one image processor class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kind {
    /// Name of the class.
    pub name: &'static str,
    /// Its older name, ending in FeatureExtractor.
    pub old_name: &'static str,
    /// `model_type`s of config.json that use it where no file names a class.
    pub models: &'static [&'static str],
    /// Default of `size`. Whether it is a [`Size::ShortestEdge`] also says how a bare number is read.
    pub size: Size,
    /// Default of `crop_size`; none for classes that never crop.
    pub crop: Option<(usize, usize)>,
    /// Default of `do_center_crop`.
    pub do_center_crop: bool,
    /// Default of `resample`.
    pub filter: Filter,
    /// Default of `image_mean`.
    pub mean: [f64; 3],
    /// Default of `image_std`.
    pub std: [f64; 3],
    /// Reads `rescale_offset` (subtracts 1 after rescaling) and `include_top` (divides by the deviation once more).
    pub efficient_net: bool,
}

const HALF: [f64; 3] = [0.5; 3];
const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

const fn square(side: usize) -> Size {
    Size::Exact { height: side, width: side }
}

const VIT: Kind = Kind {
    name: "ViTImageProcessor",
    old_name: "ViTFeatureExtractor",
    models: &["vit", "swin", "swinv2", "vit_mae", "vit_msn"],
    size: square(224),
    crop: None,
    do_center_crop: false,
    filter: Filter::Bilinear,
    mean: HALF,
    std: HALF,
    efficient_net: false,
};

/// Every class that is known; adding one is a line here.
pub const KINDS: &[Kind] = &[
    VIT,
    Kind {
        name: "BeitImageProcessor",
        old_name: "BeitFeatureExtractor",
        models: &["beit", "data2vec-vision"],
        size: square(256),
        crop: Some((224, 224)),
        do_center_crop: true,
        filter: Filter::Bicubic,
        ..VIT
    },
    Kind {
        name: "DeiTImageProcessor",
        old_name: "DeiTFeatureExtractor",
        models: &["deit"],
        size: square(256),
        crop: Some((224, 224)),
        do_center_crop: true,
        filter: Filter::Bicubic,
        ..VIT
    },
    Kind {
        name: "BlipImageProcessor",
        old_name: "BlipFeatureExtractor",
        models: &["blip"],
        size: square(384),
        filter: Filter::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        ..VIT
    },
    Kind {
        name: "CLIPImageProcessor",
        old_name: "CLIPFeatureExtractor",
        models: &["clip"],
        size: Size::ShortestEdge(224),
        crop: Some((224, 224)),
        do_center_crop: true,
        filter: Filter::Bicubic,
        mean: CLIP_MEAN,
        std: CLIP_STD,
        ..VIT
    },
    Kind {
        name: "EfficientNetImageProcessor",
        old_name: "EfficientNetFeatureExtractor",
        models: &["align", "efficientnet"],
        size: square(346),
        crop: Some((289, 289)),
        filter: Filter::Nearest,
        mean: HALF,
        std: HALF,
        efficient_net: true,
        ..VIT
    },
];

/// The steps from a picture to `pixel_values`, in the order in which they are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessor {
    /// The class that gave the defaults.
    pub kind: &'static str,
    /// Resize to this size with this filter.
    pub resize: Option<(Size, Filter)>,
    /// Cut out the middle `(height, width)`; black where the picture is smaller.
    pub crop: Option<(usize, usize)>,
    /// Multiply the values of 0 to 255 by this.
    pub rescale: Option<f64>,
    /// Then subtract 1.
    pub offset: bool,
    /// Then subtract the mean and divide by the deviation of each channel.
    pub normalize: Option<([f64; 3], [f64; 3])>,
    /// Then divide by the deviation once more.
    pub divide_again: Option<[f64; 3]>,
}

impl ImageProcessor {
    /// From preprocessor_config.json; `None` when there is none, or it is not for pictures. Fails for a class that is
    /// not in [`KINDS`].
    pub fn from_assets(assets: &Assets) -> Result<Option<Self>> {
        if !assets.contains(FILE) {
            return Ok(None);
        }
        let doc = assets.json(FILE)?;
        if let Some(kind) = choose_kind(assets, &doc)? {
            Self::from_doc(kind, &doc).map(Some)
        } else {
            Ok(None)
        }
    }

    fn from_doc(kind: &Kind, doc: &Doc) -> Result<Self> {
        let flag = |key: &str, default: bool| doc.bool(key).map(|v| v.unwrap_or(default));
        let filter = match doc.get("resample") {
            None => kind.filter,
            Some(v) => v
                .as_u64()
                .and_then(Filter::from_number)
                .ok_or_else(|| doc.wrong("resample", "a filter's number, 0 to 5"))?,
        };
        let size = read_size(doc, "size", kind.size)?;
        let crop = match kind.crop {
            None => None,
            Some((height, width)) => match read_size(doc, "crop_size", Size::Exact { height, width })? {
                Size::Exact { height, width } => Some((height, width)),
                Size::ShortestEdge(_) => return Err(doc.wrong("crop_size", "height and width")),
            },
        };
        let mean = read_channels(doc, "image_mean", kind.mean)?;
        let std = read_channels(doc, "image_std", kind.std)?;
        if std.contains(&0.0) {
            return Err(doc.wrong("image_std", "numbers other than 0"));
        }
        let factor = doc.f64("rescale_factor")?.unwrap_or(1.0 / 255.0);
        Ok(ImageProcessor {
            kind: kind.name,
            resize: flag("do_resize", true)?.then_some((size, filter)),
            crop: if flag("do_center_crop", kind.do_center_crop)? { crop } else { None },
            rescale: flag("do_rescale", true)?.then_some(factor),
            offset: kind.efficient_net && flag("rescale_offset", false)?,
            normalize: flag("do_normalize", true)?.then_some((mean, std)),
            divide_again: (kind.efficient_net && flag("include_top", true)?).then_some(std),
        })
    }

    /// Decodes files and makes `pixel_values` of them: f32 `[batch, 3, height, width]`. Fails when the pictures do not
    /// come out equally large.
    pub fn from_files(&self, files: &[RawFile]) -> Result<Tensor> {
        let pictures: Result<Vec<(Picture, &str)>> =
            files.iter().map(|f| Ok((decode(f)?, f.name.as_str()))).collect();
        let pictures = pictures?;
        self.batch(pictures.iter().map(|(p, n)| (p, *n)))
    }

    /// `pixel_values` of decoded pictures, each with a name for messages.
    pub fn batch<'a>(&self, pictures: impl IntoIterator<Item = (&'a Picture, &'a str)>) -> Result<Tensor> {
        let mut values: Vec<f32> = Vec::new();
        let mut size: Option<(usize, usize)> = None;
        let mut count = 0usize;
        for (picture, name) in pictures {
            let picture = self.fit(picture, name)?;
            let this = (picture.height(), picture.width());
            if let Some(first) = size.filter(|s| *s != this) {
                return Err(Error::Input {
                    what: format!("picture {name}"),
                    expected: format!("{} x {} pixels, as the first one", first.1, first.0),
                    got: format!("{} x {}", this.1, this.0),
                });
            }
            size = Some(this);
            count = count.saturating_add(1);
            self.append(&picture, &mut values);
        }
        let Some((height, width)) = size else {
            return Err(Error::Input {
                what: "picture".to_owned(),
                expected: "at least one".to_owned(),
                got: "none".to_owned(),
            });
        };
        Ok(Tensor::from_slice(&[count, 3, height, width], &values)?)
    }

    /// Resizes and crops.
    pub fn fit(&self, picture: &Picture, name: &str) -> Result<Picture> {
        let mut picture = match self.resize {
            None => picture.clone(),
            Some((size, filter)) => {
                let (height, width) = match size {
                    Size::Exact { height, width } => (height, width),
                    Size::ShortestEdge(edge) => shortest_edge(picture, edge),
                };
                resize(picture, width, height, filter, name)?
            }
        };
        if let Some((height, width)) = self.crop {
            picture = center_crop(&picture, height, width, name)?;
        }
        Ok(picture)
    }

    /// Rescales and normalises, channel by channel, in the precision that numpy takes at each step.
    fn append(&self, picture: &Picture, values: &mut Vec<f32>) {
        for channel in 0..3 {
            let value = |byte: u8| -> f32 {
                let mut x = match self.rescale {
                    Some(factor) => (f64::from(byte) * factor) as f32,
                    None => f32::from(byte),
                };
                if self.offset {
                    x -= 1.0;
                }
                let of = |all: &[f64; 3]| all.get(channel).copied().unwrap_or(0.0) as f32;
                if let Some((mean, std)) = &self.normalize {
                    x = (x - of(mean)) / of(std);
                }
                if let Some(std) = &self.divide_again {
                    x /= of(std);
                }
                x
            };
            // A channel has at most 256 different values.
            let table: Vec<f32> = (0..=255).map(value).collect();
            let bytes = picture.pixels().iter().skip(channel).step_by(3);
            values.extend(bytes.map(|&b| table.get(usize::from(b)).copied().unwrap_or(0.0)));
        }
    }
}

fn choose_kind(assets: &Assets, doc: &Doc) -> Result<Option<&'static Kind>> {
    let known = |name: &str| KINDS.iter().find(|k| k.name == name || k.old_name == name);
    let names = || KINDS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = doc.str("image_processor_type")? {
        return known(name).map(Some).ok_or_else(|| doc.unsupported("image_processor_type", names()));
    }
    if doc.get("sampling_rate").is_some() {
        return Ok(None);
    }
    if let Some(name) = doc.str("feature_extractor_type")? {
        return known(name).map(Some).ok_or_else(|| doc.unsupported("feature_extractor_type", names()));
    }
    let config = assets.json("config.json")?;
    let encoder = config.object("encoder")?;
    let model = match encoder.str("model_type")? {
        Some(m) => Some(m),
        None => config.str("model_type")?,
    };
    Ok(model.and_then(|m| KINDS.iter().find(|k| k.models.contains(&m))))
}

/// transformers' `get_size_dict`: a number, `[height, width]`, or an object.
fn read_size(doc: &Doc, key: &str, default: Size) -> Result<Size> {
    let expected = "a number of pixels, height and width, or shortest_edge";
    let wrong = || doc.wrong(key, expected);
    let pixels = |v: &serde_json::Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let Some(value) = doc.get(key) else { return Ok(default) };
    if value.is_number() {
        let side = pixels(value).ok_or_else(wrong)?;
        return Ok(match default {
            Size::Exact { .. } => square(side),
            Size::ShortestEdge(_) => Size::ShortestEdge(side),
        });
    }
    if let Some(list) = value.as_array() {
        return match list.as_slice() {
            [h, w] => {
                Ok(Size::Exact { height: pixels(h).ok_or_else(wrong)?, width: pixels(w).ok_or_else(wrong)? })
            }
            _ => Err(wrong()),
        };
    }
    let part = |name: &str| value.get(name).map(|v| pixels(v).ok_or_else(wrong)).transpose();
    match (part("height")?, part("width")?, part("shortest_edge")?, value.get("longest_edge")) {
        (Some(height), Some(width), None, None) => Ok(Size::Exact { height, width }),
        (None, None, Some(edge), None) if matches!(default, Size::ShortestEdge(_)) => {
            Ok(Size::ShortestEdge(edge))
        }
        (None, None, Some(_), None) => Err(doc.unsupported(key, "height and width for this class")),
        _ => Err(wrong()),
    }
}

/// One number for all channels, or one each.
fn read_channels(doc: &Doc, key: &str, default: [f64; 3]) -> Result<[f64; 3]> {
    let wrong = || doc.wrong(key, "a number, or a list of three");
    let number = |v: &serde_json::Value| v.as_f64().filter(|x| x.is_finite()).ok_or_else(wrong);
    match doc.get(key) {
        None => Ok(default),
        Some(v) => match v.as_array().map(Vec::as_slice) {
            Some([r, g, b]) => Ok([number(r)?, number(g)?, number(b)?]),
            Some(_) => Err(wrong()),
            None => number(v).map(|x| [x; 3]),
        },
    }
}

/// Height and width with the shorter side at `edge`. The longer one is cut to a whole number, as transformers does.
fn shortest_edge(picture: &Picture, edge: usize) -> (usize, usize) {
    let (width, height) = (picture.width(), picture.height());
    let (short, long) = (width.min(height), width.max(height));
    let longer = ((edge as f64 * long as f64) / short as f64) as usize;
    if width <= height { (longer, edge) } else { (edge, longer) }
}

/// transformers' `center_crop`: the middle, with black added evenly where the picture is smaller.
fn center_crop(picture: &Picture, height: usize, width: usize, name: &str) -> Result<Picture> {
    super::check_size(width as u64, height as u64, name)?;
    let top = crop_start(picture.height(), height);
    let left = crop_start(picture.width(), width);
    let mut pixels = vec![0u8; height.saturating_mul(width).saturating_mul(3)];
    for (y, out) in (0isize..).zip(pixels.chunks_exact_mut(width.saturating_mul(3))) {
        let Ok(from) = usize::try_from(y.saturating_add(top)) else { continue };
        if from >= picture.height() {
            continue;
        }
        let row = picture.row(from);
        for (x, pixel) in (0isize..).zip(out.chunks_exact_mut(3)) {
            let Ok(at) = usize::try_from(x.saturating_add(left)) else { continue };
            let start = at.saturating_mul(3);
            if let Some(source) = row.get(start..start.saturating_add(3)) {
                pixel.copy_from_slice(source);
            }
        }
    }
    Picture::new(width, height, pixels, name)
}

/// Where the crop starts in the picture; negative when it starts before it.
///
/// transformers first pads to the larger of both sizes, then shifts the crop by that padding, both halves rounded down.
/// For a picture that is smaller by an odd number it then gives one row or column too few; here that one is black.
fn crop_start(size: usize, crop: usize) -> isize {
    let (size, crop) = (size as isize, crop as isize);
    let padding = (crop.max(size) - size).div_euclid(2);
    let start = (size - crop).div_euclid(2) + padding;
    start.max(0) - padding
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(config: &str) -> Result<Option<ImageProcessor>> {
        ImageProcessor::from_assets(&[(FILE, config.as_bytes().to_vec())].into_iter().collect())
    }

    #[test]
    fn sizes_are_read_in_every_spelling() {
        let size = |text: &str| processor(text).map(|p| p.unwrap().resize.unwrap().0);
        let vit = |size: &str| format!(r#"{{"image_processor_type": "ViTImageProcessor", "size": {size}}}"#);
        assert_eq!(size(&vit("32")).unwrap(), square(32));
        assert_eq!(size(&vit("[20, 30]")).unwrap(), Size::Exact { height: 20, width: 30 });
        assert_eq!(size(&vit(r#"{"height": 4, "width": 5}"#)).unwrap(), Size::Exact { height: 4, width: 5 });
        assert_eq!(size(&vit("null")).unwrap(), square(224));
        assert!(matches!(size(&vit(r#"{"shortest_edge": 4}"#)), Err(Error::Unsupported { .. })));
        assert!(matches!(size(&vit("0")), Err(Error::Value { .. })));
        let clip = r#"{"feature_extractor_type": "CLIPFeatureExtractor", "size": 32}"#;
        assert_eq!(size(clip).unwrap(), Size::ShortestEdge(32));
    }

    #[test]
    fn other_processors_are_told_apart() {
        assert!(
            processor(r#"{"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000}"#)
                .unwrap()
                .is_none()
        );
        assert!(matches!(
            processor(r#"{"image_processor_type": "SamImageProcessor"}"#),
            Err(Error::Unsupported { .. })
        ));
        assert!(processor(r#"{"image_processor_type": "ViTImageProcessor", "resample": 9}"#).is_err());
        assert!(
            processor(r#"{"image_processor_type": "ViTImageProcessor", "image_std": [0, 1, 1]}"#).is_err()
        );
        let wrong_flag = r#"{"image_processor_type": "BeitImageProcessor", "do_center_crop": "yes"}"#;
        assert!(processor(wrong_flag).is_err());
    }

    #[test]
    fn one_pixel_is_enough() {
        let p = processor(r#"{"image_processor_type": "BeitImageProcessor"}"#).unwrap().unwrap();
        let picture = Picture::new(1, 1, vec![255, 0, 128], "dot").unwrap();
        let t = p.batch([(&picture, "dot")]).unwrap();
        assert_eq!(t.shape(), [1, 3, 224, 224]);
        let v = t.to_f32_vec();
        assert_eq!((v[0], v[224 * 224]), (1.0, -1.0));
    }
}
