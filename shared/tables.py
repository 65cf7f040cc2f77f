"""All tables, for migrations and for tests: importing this module registers them with SQLModel."""

from sqlmodel import SQLModel

from shared.admission.tables import CarbonAccountRow
from shared.audit.tables import AuditEventRow
from shared.batches.tables import BatchRow
from shared.chunks.tables import ChunkRow, VocabularyRow
from shared.collections.tables import CollectionRow
from shared.conversations.tables import ConversationMessageRow, ConversationRow
from shared.documents.tables import DocumentRow, ItemRow
from shared.files.tables import FileRow
from shared.idempotency.tables import IdempotencyKeyRow
from shared.jobs.tables import JobEventRow, JobResultRow, JobRow
from shared.keys.tables import KeyRow
from shared.organizations.tables import OrganizationRow
from shared.providers.tables import ProviderRow
from shared.request_logs.tables import RequestLogRow
from shared.revision import RevisionRow
from shared.roles.tables import LimitRow, RoleRow
from shared.routers.tables import RouterNameRow, RouterRow
from shared.usage.tables import ChargeRow, CloseRow, RestatementRow, UsageRecordRow
from shared.users.tables import UserRow
from shared.webhooks.tables import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow

TABLES: tuple[type[SQLModel], ...] = (
    RevisionRow, OrganizationRow, RoleRow, UserRow, KeyRow, RouterRow, RouterNameRow, ProviderRow, LimitRow,
    JobRow, JobResultRow, JobEventRow, RequestLogRow, UsageRecordRow, ChargeRow, RestatementRow, CloseRow,
    AuditEventRow, CarbonAccountRow,
    IdempotencyKeyRow, FileRow, BatchRow, WebhookEndpointRow, WebhookDeliveryRow, WebhookAttemptRow,
    CollectionRow, DocumentRow, ItemRow, ChunkRow, VocabularyRow,
    ConversationRow, ConversationMessageRow,
)  # fmt: skip
METADATA = SQLModel.metadata
