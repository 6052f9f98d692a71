"""The part of Qt, CTK and 3D Slicer that the module uses, class by class.

Tests run over stand-ins (standins/README.md), which would accept what the real classes do not have.
So everything that the module uses of them is listed here, after the header that declares it;
test_published_api.py holds the module, the stand-ins, PySide6 and Slicer's core against this list.
Before a name is added, look it up: Qt's in the documentation of Qt 5.15 and of Qt 6, the others in
the file that is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_MRML = "Slicer: Libs/MRML/Widgets"
_CTK = "CTK: Libs/Widgets"


@dataclass(frozen=True)
class Api:
    """Names of a class: properties, functions, enumerators; signals with their arguments.

    ``results`` tells the class of what a function returns, where the module uses that.
    """

    base: str = ""
    names: str = ""
    signals: str = ""
    source: str = "Qt"
    results: dict[str, str] = field(default_factory=dict)

    def lineage(self) -> Iterator[Api]:
        """This class and those it inherits from."""
        yield self
        if self.base:
            yield from CLASSES[self.base].lineage()

    def allNames(self) -> set[str]:
        """Names including inherited ones."""
        return {name for api in self.lineage() for name in api.names.split()}

    def allSignals(self) -> set[str]:
        """Signals including inherited ones."""
        return {name for api in self.lineage() for name in api.signals.split()}

    def result(self, name: str) -> str:
        """Class of what the function returns, empty if that does not matter."""
        return next((api.results[name] for api in self.lineage() if name in api.results), "")


CLASSES: dict[str, Api] = {
    # Qt: objects
    "QObject": Api(
        names="""blockSignals children className connect delete deleteLater disconnect findChild
        findChildren inherits name objectName parent property setObjectName setParent
        setProperty"""
    ),
    "QTimer": Api(
        "QObject",
        "interval setInterval setSingleShot singleShot start stop",
        "timeout()",
    ),
    "QShortcut": Api(
        "QObject",
        "enabled setAutoRepeat setContext setEnabled setKey",
        "activated()",
    ),
    "QApplication": Api("QObject", "activePopupWidget clipboard focusWidget processEvents"),
    "QClipboard": Api("QObject", "setText text"),
    "QItemSelectionModel": Api("QObject", "Rows Select select selectedRows"),
    "QAbstractItemModel": Api("QObject", "index"),
    # Qt: values
    "Qt": Api(
        names="""AlignRight AlignVCenter ApplicationShortcut AscendingOrder DecorationRole
        DescendingOrder DisplayRole ForegroundRole TabFocus"""
    ),
    "QColor": Api(),
    "QKeySequence": Api(),
    "QModelIndex": Api(names="row"),
    "QSettings": Api(names="remove setValue value"),
    "QTableWidgetItem": Api(
        names="""column data row setBackground setData setFlags setText setTextAlignment setToolTip
        text"""
    ),
    # Qt: widgets
    "QWidget": Api(
        "QObject",
        """enabled geometry hide isHidden layout minimumSize raise_ resize setEnabled setFocus
        setFocusPolicy setLayout setUpdatesEnabled setVisible show styleSheet toolTip visible
        windowTitle""",
    ),
    "QLabel": Api("QWidget", "setText text textInteractionFlags wordWrap"),
    "QLineEdit": Api(
        "QWidget", "placeholderText setText text", "editingFinished() returnPressed()"
    ),
    "QPlainTextEdit": Api(
        "QWidget", "appendPlainText clear lineWrapMode plainText readOnly toPlainText"
    ),
    "QTextBrowser": Api("QWidget", "openExternalLinks setMarkdown"),
    "QProgressBar": Api("QWidget", "maximum minimum value"),
    "QAbstractButton": Api(
        "QWidget", "checkable checked click setChecked text", "clicked(bool) toggled(bool)"
    ),
    "QPushButton": Api("QAbstractButton"),
    "QCheckBox": Api("QAbstractButton"),
    "QComboBox": Api(
        "QWidget",
        """addItem clear count currentData currentIndex currentText findData itemData
        minimumContentsLength setCurrentIndex sizeAdjustPolicy""",
        "activated(int) currentIndexChanged(int)",
    ),
    "QSpinBox": Api("QWidget", "maximum minimum setValue suffix value", "valueChanged(int)"),
    "QDoubleSpinBox": Api(
        "QWidget",
        "decimals maximum minimum prefix setValue singleStep suffix value",
        "valueChanged(double)",
    ),
    "QAbstractItemView": Api(
        "QWidget",
        """ExtendedSelection NoEditTriggers SelectRows clearSelection model selectionModel
        setEditTriggers setSelectionBehavior setSelectionMode""",
        results={"model": "QAbstractItemModel", "selectionModel": "QItemSelectionModel"},
    ),
    "QHeaderView": Api(
        "QAbstractItemView",
        """Interactive setDefaultSectionSize setHighlightSections setSectionResizeMode
        setSectionsClickable setSortIndicator setSortIndicatorShown""",
        "sectionClicked(int)",
    ),
    "QTableWidget": Api(
        "QAbstractItemView",
        """columnCount editItem horizontalHeader horizontalHeaderItem item removeRow rowCount
        scrollToItem selectRow setColumnCount setColumnHidden setColumnWidth
        setHorizontalHeaderLabels setItem setRowCount setRowHidden setSortingEnabled setWordWrap
        sortItems verticalHeader""",
        "cellChanged(int,int) cellClicked(int,int) cellDoubleClicked(int,int) "
        "itemSelectionChanged()",
        results={
            "horizontalHeader": "QHeaderView",
            "horizontalHeaderItem": "QTableWidgetItem",
            "item": "QTableWidgetItem",
            "verticalHeader": "QHeaderView",
        },
    ),
    "QDialog": Api("QWidget"),
    "QFileDialog": Api("QDialog", "getExistingDirectory getOpenFileName"),
    # Qt: layouts
    "QLayout": Api("QObject", "setContentsMargins spacing"),
    "QBoxLayout": Api("QLayout", "addWidget"),
    "QVBoxLayout": Api("QBoxLayout"),
    "QHBoxLayout": Api("QBoxLayout"),
    "QFormLayout": Api("QLayout", "fieldGrowthPolicy"),
    "QGridLayout": Api("QLayout"),
    # CTK
    "ctkCollapsibleButton": Api(
        "QAbstractButton",
        "collapsed setCollapsed",
        "contentsCollapsed(bool)",
        f"{_CTK}/ctkCollapsibleButton.h",
    ),
    "ctkComboBox": Api(
        "QComboBox",
        "AlwaysScroll NeverScroll setScrollWheelEffect",
        source=f"{_CTK}/ctkComboBox.h",
    ),
    "ctkPathLineEdit": Api(
        "QWidget",
        """Dirs Drives Files Readable Writable browse currentPath filters setCurrentPath setFilters
        setSettingKey settingKey""",
        "currentPathChanged(QString)",
        f"{_CTK}/ctkPathLineEdit.h",
    ),
    # 3D Slicer: widgets
    "qMRMLWidget": Api(
        "QWidget",
        "mrmlScene setMRMLScene",
        "mrmlSceneChanged(vtkMRMLScene*)",
        f"{_MRML}/qMRMLWidget.h",
    ),
    "qMRMLNodeComboBox": Api(
        "QWidget",
        """addAttribute addEnabled currentNode currentNodeID editEnabled mrmlScene nodeCount
        nodeFromIndex nodeTypes nodes noneDisplay noneEnabled removeEnabled renameEnabled
        setCurrentNode setCurrentNodeID setCurrentNodeIndex setMRMLScene showChildNodeTypes
        showHidden""",
        "currentNodeChanged(vtkMRMLNode*) currentNodeChanged(bool) currentNodeIDChanged(QString) "
        "nodeActivated(vtkMRMLNode*)",
        f"{_MRML}/qMRMLNodeComboBox.h",
    ),
    # 3D Slicer: application
    "qSlicerApplication": Api(
        "QApplication",
        """applicationLogic commandOptions exit layoutManager majorVersion minorVersion
        moduleManager mrmlScene pauseRender resumeRender revision settings slicerHome temporaryPath
        testingEnabled userSettings""",
        "focusChanged(QWidget*,QWidget*) startupCompleted()",
        "Slicer: Base/QTCore/qSlicerCoreApplication.h",
        {"clipboard": "QClipboard", "layoutManager": "qMRMLLayoutManager"},
    ),
    "qSlicerMainWindow": Api(
        "QWidget",
        "moduleSelector",
        source="Slicer: Applications/SlicerApp/qSlicerAppMainWindow.h",
    ),
    "qSlicerModuleSelectorToolBar": Api(
        "QWidget",
        "selectModule selectedModule",
        source="Slicer: Base/QTGUI/qSlicerModuleSelectorToolBar.h",
    ),
    "qSlicerModuleManager": Api(
        "QObject",
        "module",
        "moduleAboutToBeUnloaded(QString)",
        "Slicer: Base/QTCore/qSlicerModuleManager.h",
    ),
    "qMRMLLayoutManager": Api(
        "QObject",
        "mrmlSliceLogics sliceViewNames sliceWidget threeDViewCount threeDWidget",
        "layoutChanged(int)",
        source=f"{_MRML}/qMRMLLayoutManager.h",
        results={"sliceWidget": "qMRMLSliceWidget", "threeDWidget": "qMRMLThreeDWidget"},
    ),
    "qMRMLSliceWidget": Api(
        "QWidget",
        "mrmlSliceNode sliceLogic sliceView",
        source=f"{_MRML}/qMRMLSliceWidget.h",
        results={"sliceView": "qMRMLSliceView"},
    ),
    "qMRMLSliceView": Api(
        "QWidget",
        "interactor mrmlSliceNode renderWindow",
        source=f"{_MRML}/qMRMLSliceView.h",
    ),
    "qMRMLThreeDWidget": Api(
        "QWidget",
        "mrmlViewNode threeDView",
        source=f"{_MRML}/qMRMLThreeDWidget.h",
        results={"threeDView": "qMRMLThreeDView"},
    ),
    "qMRMLThreeDView": Api("QWidget", "resetFocalPoint", source=f"{_MRML}/qMRMLThreeDView.h"),
}

NAMESPACES: dict[str, str] = {
    "slicer.app": "qSlicerApplication",
    "slicer.util": "",
}
"""Objects that are reached by a path, with their class; ``slicer.util`` is the real file."""

SLICER = {
    "app": "Base/Python/slicer/slicerqt.py",
    "mrmlScene": "Base/Python/slicer/slicerqt.py",
    "util": "Base/Python/slicer/util.py",
}
"""What ``slicer`` itself holds apart from VTK classes, with the file that puts it there."""

OTHER: dict[str, str] = {
    "PyTorchUtilsLogic": "SlicerPyTorch: PyTorchUtils/PyTorchUtils.py",
    "installTorch": "SlicerPyTorch: PyTorchUtils/PyTorchUtils.py",
    "acknowledgementText": "Base/QTCore/qSlicerScriptedLoadableModule.h",
    "categories": "Base/QTCore/qSlicerScriptedLoadableModule.h",
    "contributors": "Base/QTCore/qSlicerScriptedLoadableModule.h",
    "dependencies": "Base/QTCore/qSlicerScriptedLoadableModule.h",
    "helpText": "Base/QTCore/qSlicerScriptedLoadableModule.h",
    "title": "Base/QTCore/qSlicerScriptedLoadableModule.h",
    "resourcePath": "Base/Python/slicer/ScriptedLoadableModule.py",
    "connectGui": "Base/Python/slicer/parameterNodeWrapper/wrapper.py",
    "disconnectGui": "Base/Python/slicer/parameterNodeWrapper/wrapper.py",
    "delayDisplay": "Base/Python/slicer/ScriptedLoadableModule.py",
    "SampleDataLogic": "Modules/Scripted/SampleData/SampleData.py",
    "downloadSample": "Modules/Scripted/SampleData/SampleData.py",
    "registerCustomSampleDataSource": "Modules/Scripted/SampleData/SampleData.py",
    "CREATE_NEW_PROCESS_GROUP": "Python: subprocess, on Windows",
    "CREATE_NO_WINDOW": "Python: subprocess, on Windows",
    "HKEY_LOCAL_MACHINE": "Python: winreg, on Windows",
    "OpenKey": "Python: winreg, on Windows",
    "QueryValueEx": "Python: winreg, on Windows",
}
"""Names on objects whose class cannot be seen in the code."""
