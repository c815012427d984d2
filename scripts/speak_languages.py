"""Make synthetic speech in many languages whose phonemes have exact times, by espeak-ng.

`python scripts/speak_languages.py -o SPEECH` writes FLAC at 16 kHz and beside each a JSON as `label_phonemes.py`
does: its seconds and [start, end, phoneme] of each span, in IPA. A name is voice-language-sentence, so that voices
are kept apart as speakers are; what is there already is left. Needs libespeak-ng.so.1 (Debian: espeak-ng), numpy,
scipy and soundfile.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from cyberhost_model.media.files import written_whole
from cyberhost_model.speech.phonemes import write_phonemes

RATE = 16_000  # Hz
VOICES = (
    "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 f5 Andrea Diogo Gene Jacky Lee Mario Michael Mike Denis Alicia Annie "
    "Demonic Storm anikaRobot aunty belinda benjamin caleb david ed edward iven john kaukovalta linda marco max "
    "michel miguel norbert pablo paul quincy rob robert steph travis victor zac croak whisper whisperf klatt "
    "klatt2 klatt3 klatt4 "
).split()
TEXTS: dict[str, list[str]] = {
    "en-us": [
        "My brother bought five warm blankets before the winter came.",
        "Would you move the purple box above the window, please?",
        "Most people love a good book, a fire and a bowl of soup.",
        "The boys have thrown the ball over the roof of our house again.",
        "Why do they measure pleasure by the volume of the music?",
        "We found a wooden boat full of apples, fish and bread.",
        "She should choose the shoes that match her usual jacket.",
        "Every morning I walk past the old cafe on the corner.",
        "Thirty-three thieves thought that they could have both paths.",
        "Put the spoon, the cup and the plate on the table by noon.",
    ],
    "es": [
        "Mi abuela siempre prepara pan con mantequilla y un buen café.",
        "Los pájaros vuelan sobre el puente cuando empieza la lluvia.",
        "¿Puedes abrir la ventana un poco? Hace mucho calor aquí.",
        "El próximo viernes viajamos a un pueblo pequeño junto al mar.",
        "Pablo compró una bufanda verde y un sombrero para su hermano.",
        "Nunca había visto una luna tan grande y tan amarilla.",
        "La música suave me ayuda a pensar y a dormir mejor.",
        "Mañana por la tarde jugamos al fútbol en el parque nuevo.",
        "El profesor explicó otra vez el mismo problema de física.",
        "Hoy llueve bastante, así que vamos a quedarnos en casa.",
    ],
    "de": [
        "Am Abend backen wir Pfannkuchen mit Äpfeln und viel Butter.",
        "Können Sie bitte die Bücher auf den grünen Tisch legen?",
        "Mein Vater fährt jeden Morgen mit dem Fahrrad über die Brücke.",
        "Das Wetter bleibt schön, aber im Gebirge schneit es schon.",
        "Fünf müde Männer warten vor dem Bahnhof auf den Bus.",
        "Heute früh hat der Briefträger ein großes Paket gebracht.",
        "Wir suchen eine ruhige Wohnung mit zwei Zimmern und Balkon.",
        "Vielleicht möchte deine Schwester später noch Musik hören.",
        "Der Junge öffnet vorsichtig die Tür und schaut hinaus.",
        "Ohne Brille kann ich die kleinen Buchstaben kaum lesen.",
    ],
    "fr": [
        "Ma petite sœur boit un bol de lait chaud avant de partir.",
        "Pouvez-vous fermer la porte, s'il vous plaît, il fait froid.",
        "Nous avons vu deux beaux oiseaux bleus au bord du fleuve.",
        "Le boulanger vend du pain, des brioches et des tartes aux pommes.",
        "Vendredi soir, mes voisins font une fête dans leur jardin.",
        "Je voudrais un peu plus de musique et beaucoup moins de bruit.",
        "Une vieille femme promène son chien sous la pluie fine.",
        "Tu peux prendre ce chemin, il mène tout droit au village.",
        "Il faut que je finisse ce livre avant le mois de juin.",
        "Les enfants jouent au ballon pendant que leur père travaille.",
    ],
    "hi": [
        "मेरी माँ हर सुबह बगीचे में फूलों को पानी देती है।",
        "क्या आप मुझे बाज़ार का रास्ता बता सकते हैं?",
        "बारिश के बाद आसमान में एक बड़ा इंद्रधनुष दिखा।",
        "हम लोग कल शाम को पुरानी फ़िल्म देखने जाएँगे।",
        "भाई ने मेज़ पर पाँच किताबें और एक कप रखा।",
        "गाँव के पास एक छोटी नदी बहुत धीरे बहती है।",
        "उसने अपने दोस्त को जन्मदिन पर घड़ी भेंट की।",
        "बच्चे मैदान में पूरे दिन गेंद से खेलते रहे।",
        "मुझे चाय में थोड़ी चीनी और अदरक पसंद है।",
        "वह हर महीने अपने परिवार को पत्र भेजता है।",
    ],
    "cmn-latn-pinyin": [
        "wo3 ma1 ma5 mei3 tian1 zao3 shang4 dou1 he1 yi4 bei1 re4 niu2 nai3.",
        "qing3 ni3 ba3 na4 ben3 shu1 fang4 zai4 zhuo1 zi5 shang4, hao3 ma5?",
        "pa2 shan1 yi3 hou4 wo3 men5 mai3 le5 hen3 duo1 ping2 guo3 he2 mian4 bao1.",
        "zuo2 tian1 wan3 shang4 wai4 mian4 xia4 le5 yi4 chang3 hen3 da4 de5 yu3.",
        "ta1 de5 peng2 you5 fei1 chang2 xi3 huan5 ting1 gu3 lao3 de5 yin1 yue4.",
        "fei1 ji1 man4 man4 de5 fei1 guo4 le5 bai2 se4 de5 yun2.",
        "xiao3 ming2 bu2 pa4 leng3, dong1 tian1 ye3 qu4 he2 bian1 pao3 bu4.",
        "wo3 men5 ming2 nian2 chun1 tian1 da3 suan4 qu4 bei3 fang1 lü3 xing2.",
        "lao3 shi1 wen4 le5 yi2 ge4 wen4 ti2, mei2 you3 ren2 neng2 hui2 da2.",
        "zhe4 ge4 fang2 jian1 de5 chuang1 hu5 you4 da4 you4 ming2 liang4.",
    ],
    "ru": [
        "Моя бабушка печёт пироги с яблоками по воскресеньям.",
        "Вы не могли бы открыть окно, здесь очень душно.",
        "Вечером мы пойдём в парк и будем слушать музыку.",
        "Большая белая птица медленно летела над водой.",
        "Папа купил билеты на утренний поезд в Москву.",
        "Мальчик уронил мяч, и собака побежала за ним.",
        "Вчера весь день шёл снег, и улицы стали белыми.",
        "Этот фильм намного лучше, чем я думал вначале.",
        "Передай, пожалуйста, хлеб, масло и немного мёда.",
        "Жена моего брата работает врачом в большой больнице.",
    ],
    "ar": [
        "أمي تشرب القهوة كل صباح مع قليل من الحليب.",
        "هل يمكنك أن تفتح الباب من فضلك؟",
        "ذهبنا إلى السوق واشترينا البرتقال والموز.",
        "يلعب الأولاد بالكرة في الحديقة بعد المدرسة.",
        "البيت الكبير قريب من البحر والمطار.",
        "سافر أبي إلى مدينة بعيدة في فصل الشتاء.",
        "أحب أن أقرأ كتابا جميلا قبل النوم.",
        "وصل القطار متأخرا بسبب المطر الشديد.",
        "بنى المهندس جسرا طويلا فوق النهر.",
        "نحن نفكر في السفر معا يوم الخميس.",
    ],
    "pt": [
        "Minha avó faz um bolo de fubá muito bom aos domingos.",
        "Você pode abrir a janela um pouco, por favor?",
        "Os meninos brincam na praia com uma bola vermelha.",
        "Amanhã vamos de ônibus para a fazenda do meu pai.",
        "Ela comprou pão, manteiga e um vidro de mel puro.",
        "O barco pequeno volta devagar para o porto velho.",
        "Ontem choveu tanto que a rua virou um rio.",
        "Meu vizinho toca violão todas as noites de verão.",
        "Preciso de uma folha de papel e de um lápis azul.",
        "Os pássaros fazem ninhos nas árvores da praça.",
    ],
    "tr": [
        "Annem her sabah bahçedeki çiçeklere su verir.",
        "Lütfen pencereyi biraz açabilir misiniz?",
        "Babam pazardan beş elma ve büyük bir ekmek aldı.",
        "Yarın akşam arkadaşımla müzik dinlemeye gideceğiz.",
        "Küçük köpek yağmurda evin önünde uyuyordu.",
        "Bu yolun sonunda güzel bir köy ve uzun bir köprü var.",
        "Öğretmen bize eski bir masal anlattı.",
        "Vapur mavi denizin üstünde yavaşça ilerliyor.",
        "Kışın dağlarda çok kar olur, yollar kapanır.",
        "Bugün hava soğuk, montunu giymeyi unutma.",
    ],
    "it": [
        "Mia nonna prepara sempre una buona zuppa di verdure.",
        "Puoi aprire la finestra, per favore? Fa molto caldo.",
        "I bambini giocano a pallone vicino alla fontana.",
        "Domani mattina prendiamo il primo treno per Palermo.",
        "Il mio vicino suona il violino ogni giovedì sera.",
        "Vorrei un bicchiere di vino e un po' di pane fresco.",
        "La luna piena illumina il campo e la vecchia chiesa.",
        "Abbiamo trovato un gatto bianco sotto il ponte.",
        "Dopo la pioggia il fiume è diventato molto profondo.",
        "Questo libro parla di un uomo che amava viaggiare.",
    ],
    "ja": [
        "わたしのははは まいあさ にわの はなに みずを やります。",
        "すみません、まどを すこし あけて ください。",
        "ともだちと いっしょに ふるい えいがを みました。",
        "きのうの よる、つよい かぜと あめが ふりました。",
        "ふゆの やまは とても さむくて しずかです。",
        "ぼくは パンと バターと みるくを かいました。",
        "この ほんは むずかしいけれど おもしろいです。",
        "あした ごぜん はちじに えきの まえで あいましょう。",
        "ちいさな ふねが ゆっくり みなとに もどってきた。",
        "せんせいは もういちど おなじ もんだいを せつめいした。",
    ],
}
_SYNCHRONOUS, _PHONEMES_IN_IPA, _UTF8 = 2, 3, 1
_END, _PHONEME = 0, 7  # kinds of events
_SPEED, _PITCH, _RANGE = 1, 3, 4  # parameters


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Synthesizer:
    """espeak-ng, for one sentence after the other."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEMES_IN_IPA)
        self._sound: list[np.ndarray] = []
        self._events: list[tuple[float, str]] = []
        self._callback = _Callback(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in events:
            if event.type == _END:
                break
            if event.type == _PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event) + _Event.id.offset, 8).split(b"\0")[0]
                name = raw.decode("utf-8", "ignore")
                self._events.append(
                    (event.sample / self.rate, "" if name.startswith("(") else name)
                )  # "(en)": a word of English
        return 0

    def speak(
        self, text: str, voice: str, speed: int, pitch: int, spread: int
    ) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
        """Samples (n,) at 16 kHz and (start, end, phoneme) in seconds; empty names are pauses. `speed` in words a
        minute, `pitch` and `spread` (of the pitch) 0..100."""
        self._sound, self._events = [], []
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise SystemExit(f"espeak-ng has no voice {voice}")
        for parameter, value in ((_SPEED, speed), (_PITCH, pitch), (_RANGE, spread)):
            self._library.espeak_SetParameter(parameter, value, 0)
        said = text.encode()
        self._library.espeak_Synth(said, len(said) + 1, 0, 0, 0, _UTF8, None, None)
        samples = np.concatenate(self._sound).astype(np.float32) / 32768
        ends = [start for start, _ in self._events[1:]] + [len(samples) / self.rate]
        spans = [(round(s, 3), round(e, 3), name) for (s, name), e in zip(self._events, ends, strict=True) if e > s]
        return resample_poly(samples, RATE, self.rate).astype(np.float32), spans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of speech")
    parser.add_argument("--times", type=int, default=5, help="how often each sentence is said, by voices that differ")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    synthesizer = Synthesizer()
    rng = np.random.default_rng(0)
    for language, texts in TEXTS.items():
        seconds = 0.0
        for number, text in enumerate(texts):
            for voice in rng.choice(VOICES, args.times, replace=False):
                how = int(rng.integers(125, 215)), int(rng.integers(20, 85)), int(rng.integers(30, 80))
                out = args.out / f"{voice}-{language}-{number:02d}.flac"
                if out.exists():
                    continue
                samples, spans = synthesizer.speak(text, f"{language}+{voice}", *how)
                write_phonemes(out.with_suffix(".json"), len(samples) / RATE, spans)
                with written_whole(out) as part:  # after its labels: a sound that is there counts as done
                    soundfile.write(part, np.clip(samples, -1, 1), RATE, format="FLAC")
                seconds += len(samples) / RATE
        print(f"{language}: {seconds / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
