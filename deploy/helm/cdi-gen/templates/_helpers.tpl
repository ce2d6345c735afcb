{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/* Labels of an object. (dict "part" NAME "root" $) */}}
{{- define "cdi-gen.labels" -}}
app.kubernetes.io/name: cdi-gen
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{/* Labels that select the pods of a part. */}}
{{- define "cdi-gen.selector" -}}
app.kubernetes.io/name: cdi-gen
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "cdi-gen.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The name of the ConfigMap with the config files; empty if there is none. */}}
{{- define "cdi-gen.configMap" -}}
{{- .Values.config.configMap | default (ternary "cdi-gen-config" "" (not (empty .Values.config.files))) -}}
{{- end }}

{{/* Options that choose a config file. */}}
{{- define "cdi-gen.configArgs" -}}
{{- if include "cdi-gen.configMap" . }}
- --config-directory=/config
{{- with .Values.config.default }}
- --default-config={{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the pods of all parts have. (dict "part" NAME "account" NAME "root" $) */}}
{{- define "cdi-gen.pod" -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .api }}
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 0 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* A container without privileges. (dict "user" 0 "root" $) */}}
{{- define "cdi-gen.unprivileged" -}}
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
runAsNonRoot: {{ ne (int .user) 0 }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- if and .root.Values.appArmor (semverCompare ">=1.30-0" .root.Capabilities.KubeVersion.Version) }}
appArmorProfile: {type: {{ .root.Values.appArmor }}}
{{- end }}
{{- end }}

{{/* A container that asks NVML. (dict "user" 0 "root" $) */}}
{{- define "cdi-gen.nvmlSecurity" -}}
{{- if eq .root.Values.deviceAccess "privileged" -}}
privileged: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
readOnlyRootFilesystem: true
{{- else -}}
{{ include "cdi-gen.unprivileged" . }}
{{- end }}
{{- end }}

{{/* The annotations of a pod whose container asks NVML. (dict "part" NAME "root" $) */}}
{{- define "cdi-gen.nvmlAnnotations" -}}
{{- $annotations := deepCopy .root.Values.podAnnotations -}}
{{- if eq .root.Values.deviceAccess "annotation" -}}
{{- $_ := set $annotations (printf "nvidia.cdi.k8s.io/container.%s" .part) "management.nvidia.com/gpu=all" -}}
{{- end -}}
{{- if $annotations }}{{ toYaml $annotations }}{{ end }}
{{- end }}

{{- define "cdi-gen.nvmlEnv" -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- if eq .Values.deviceAccess "runtimeClass" }}
- {name: NVIDIA_VISIBLE_DEVICES, value: all}
- {name: NVIDIA_DRIVER_CAPABILITIES, value: utility}
{{- end }}
{{- end }}

{{- define "cdi-gen.nvmlMounts" -}}
- {name: host, mountPath: /host, readOnly: true, mountPropagation: HostToContainer}
{{- if eq .Values.deviceAccess "privileged" }}
- {name: dev, mountPath: /dev}
{{- end }}
{{- if include "cdi-gen.configMap" . }}
- {name: config, mountPath: /config, readOnly: true}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "cdi-gen.nvmlVolumes" -}}
- name: host
  hostPath: {path: /, type: Directory}
{{- if eq .Values.deviceAccess "privileged" }}
- name: dev
  hostPath: {path: /dev, type: Directory}
{{- end }}
{{- with include "cdi-gen.configMap" . }}
- name: config
  configMap: {name: {{ . }}}
{{- end }}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 16Mi}
{{- end }}

{{- define "cdi-gen.strategy" -}}
updateStrategy: {{ toYaml .Values.updateStrategy | nindent 2 }}
{{- end }}
