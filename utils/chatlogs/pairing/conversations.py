"""Who answers whom: one channel's messages -> the persona's exchanges, with what each answers and what went before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from utils.chatlogs.message import Message
from utils.chatlogs.pairing import instructions, scorer
from utils.chatlogs.pairing.channel_view import ChannelView
from utils.chatlogs.pairing.weights import WEIGHTS, Weights

JOIN_QUIET_MESSAGES = 12  # so many messages without anybody else make a small group

Turn = tuple[tuple[Message, ...], tuple[Message, ...]]  # (the others' messages, the persona's)


@dataclass(frozen=True)
class Exchange:
    """One reply of the persona and what it answers.

    `confidence` is the estimated probability, 0 to 1, that `instruction` holds the message that was really answered.
    """

    conversation: str  # "CHANNEL_ID/FIRST_MESSAGE_ID": the first message answered in it
    turn: int  # counts the persona's replies in this conversation from 0
    instruction: tuple[Message, ...]  # the messages answered, by one person, in order
    output: tuple[Message, ...]  # the persona's burst
    context: tuple[Message, ...]  # messages that the instruction quotes and that are no turns here; often empty
    history: tuple[Turn, ...]  # earlier turns of the conversation, oldest first
    confidence: float


@dataclass(frozen=True)
class PairingSettings:
    session_gap_minutes: float = 60.0  # nothing before so long a silence is answered, but by an explicit reply
    burst_gap_seconds: float = 180.0  # messages of the persona further apart than this are two outputs
    max_history_turns: int = 8  # a conversation that has so many turns starts anew
    min_confidence: float = 0.5  # replies whose parent is more doubtful than this are left out
    weights: Weights = WEIGHTS


@dataclass
class Reply:
    """An output in the making. All numbers are indices into the channel."""

    outputs: list[int]
    instruction: list[int]
    partner: int  # the person answered
    confidence: float
    afterthoughts: list[int] = field(default_factory=list)  # own messages that continue it, too late to be output


@dataclass
class _Conversation:
    name: str
    people: set[int]
    replies: list[Reply] = field(default_factory=list)


def build_exchanges(
    messages: Sequence[Message],
    persona_id: int,
    settings: PairingSettings = PairingSettings(),
) -> tuple[list[Exchange], Counter[str]]:
    """The persona's exchanges in time order, and how many of its messages were left out, by reason.

    `messages` are those of one channel, in order of id. Reasons: opening (it answers nothing), continuation (of an own
    earlier message; it stands in the history of later turns), below_min_confidence, answers_bot (it mentions bots
    alone, or is an explicit reply to a bot, a system text or a forward), not_own_words (the persona's own system texts
    and forwards).
    """
    return exchanges_in(ChannelView(messages, settings.session_gap_minutes), persona_id, settings)


def exchanges_in(view: ChannelView, persona_id: int, settings: PairingSettings) -> tuple[list[Exchange], Counter[str]]:
    """The same for a channel that has been viewed already, when several personas of one channel are wanted."""
    persona = view.person_of_id(persona_id)
    spoken = [index for index, person in enumerate(view.person) if person == persona]
    own_words = [index for index in spoken if view.answerable[index]]
    to_people = [index for index in own_words if not view.is_to_bots[index]]
    replies, left_out = find_replies(view, to_people, settings)
    left_out["answers_bot"] += len(own_words) - len(to_people)
    left_out["not_own_words"] = len(spoken) - len(own_words)
    sure = [reply for reply in replies if reply.confidence >= settings.min_confidence]
    left_out["below_min_confidence"] = sum(len(r.outputs) for r in replies) - sum(len(r.outputs) for r in sure)
    return converse(view, sure, settings), +left_out


def find_replies(view: ChannelView, indices: list[int], settings: PairingSettings) -> tuple[list[Reply], Counter[str]]:
    """The persona's messages gathered into outputs, each with what it answers."""
    replies: list[Reply] = []
    left_out: Counter[str] = Counter()
    reply_of: dict[int, Reply] = {}  # own message -> the reply that it belongs to
    last_to: dict[int, Reply] = {}  # person -> the latest reply to them
    for link in scorer.link_messages(view, indices, settings.weights):
        index, kind = link.index, link.kind()
        if kind == "opening":
            left_out["opening"] += 1
            continue
        if kind == "own":
            reply = reply_of.get(link.best_own())
            if reply is not None and reply is last_to[reply.partner] and _near(view, reply, index, settings):
                reply.outputs.append(index)
            else:
                left_out["continuation"] += 1
                if reply is not None:
                    reply.afterthoughts.append(index)
            if reply is not None:
                reply_of[index] = reply
            continue
        parent = link.best_reply()
        if not view.answerable[parent]:
            left_out["answers_bot"] += 1
            continue
        partner = view.person[parent]
        reply = last_to.get(partner)
        instruction = instructions.choose(view, link, reply.instruction if reply else [])
        confidence = instructions.confidence(link, instruction)
        if reply is not None and parent in reply.instruction and _near(view, reply, index, settings):
            reply.outputs.append(index)
            reply.confidence = max(reply.confidence, confidence)
        else:
            reply = Reply([index], instruction, partner, confidence)
            replies.append(reply)
        last_to[partner] = reply_of[index] = reply
    return replies, left_out


def _near(view: ChannelView, reply: Reply, index: int, settings: PairingSettings) -> bool:
    return view.seconds_between(reply.outputs[-1], index) <= settings.burst_gap_seconds


def converse(view: ChannelView, replies: list[Reply], settings: PairingSettings) -> list[Exchange]:
    """Strings the replies into conversations: one per partner, or per small group that nobody else interrupts."""
    exchanges: list[Exchange] = []
    open_with: dict[int, _Conversation] = {}
    latest: _Conversation | None = None
    for reply in replies:
        conversation = open_with.get(reply.partner)
        if conversation is None and latest is not None and _joins(view, latest, reply):
            conversation = latest
        if conversation is None or _is_over(view, conversation, reply, settings):
            first = view.messages[reply.instruction[0]]
            conversation = _Conversation(f"{first.channel_id}/{first.id}", set())
        exchanges.append(_exchange(view, conversation, reply))
        conversation.replies.append(reply)
        conversation.people.add(reply.partner)
        for person in conversation.people:
            open_with[person] = conversation
        latest = conversation
    return exchanges


def _is_over(view: ChannelView, conversation: _Conversation, reply: Reply, settings: PairingSettings) -> bool:
    silence_seconds = view.seconds_between(conversation.replies[-1].outputs[-1], reply.outputs[0])
    return (
        len(conversation.replies) >= settings.max_history_turns or silence_seconds > settings.session_gap_minutes * 60
    )


def _joins(view: ChannelView, conversation: _Conversation, reply: Reply) -> bool:
    """Somebody new falls in with the running conversation: since its last output nobody else has spoken, and they
    address somebody in it, or nobody else has spoken for a while.

    Whoever merely asks something next in a busy channel begins a conversation of their own.
    """
    last, first = conversation.replies[-1].outputs[-1], reply.instruction[0]
    inside = conversation.people | {view.person[last]}
    if first < last or not _only_by(view, range(last + 1, reply.outputs[0]), inside | {reply.partner}):
        return False
    if any(inside & view.addressed(index) for index in reply.instruction):
        return True
    return _only_by(view, range(max(0, first - JOIN_QUIET_MESSAGES), first), inside | {reply.partner})


def _only_by(view: ChannelView, indices: range, people: set[int]) -> bool:
    """Whether everybody who speaks there, in the last one's session, is one of these people."""
    if not indices:
        return True
    session = view.session[indices[-1]]
    return all(view.person[i] in people or not view.answerable[i] or view.session[i] != session for i in indices)


def _exchange(view: ChannelView, conversation: _Conversation, reply: Reply) -> Exchange:
    now = reply.outputs[0]
    turns = [
        (r.instruction, [index for index in sorted(r.outputs + r.afterthoughts) if index < now])
        for r in conversation.replies
    ]
    shown = {index for turn in turns for part in turn for index in part} | set(reply.instruction)

    def texts(indices: Sequence[int]) -> tuple[Message, ...]:
        return tuple(view.messages[index] for index in indices)

    return Exchange(
        conversation=conversation.name,
        turn=len(turns),
        instruction=texts(reply.instruction),
        output=texts(reply.outputs),
        context=texts(_quoted(view, reply, shown)),
        history=tuple((texts(asked), texts(said)) for asked, said in turns),
        confidence=reply.confidence,
    )


def _quoted(view: ChannelView, reply: Reply, shown: set[int]) -> list[int]:
    """What the instruction's messages reply to, where it is not to be seen otherwise."""
    targets = {view.index_of_id.get(view.messages[index].reply_to) for index in reply.instruction}
    return sorted(t for t in targets if t is not None and t not in shown and view.answerable[t])
